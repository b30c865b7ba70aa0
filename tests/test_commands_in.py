"""Commands from every kind of file: each bad one with its whole message, each good one as the same rows, and a fuzz of every reader."""
import os, json, zipfile
from collections import Counter

import openpyxl, pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fgnb.calls import Call, Reply, same_value
from fgnb.convert import answer_kind, convert, every_answer, write_table
from fgnb.core import FaultError, write_jsonl
from fgnb.data import call_key, collect, command, from_table, gold_calls, read_all, read_examples, round_trip, to_table
from fgnb.replies import Style, read_reply, write_reply
from fgnb.rows import sheet_row
from fgnb.schema import load_tools
from fgnb.sheets import read_tables
from made import sheet

TOOLS = load_tools([{'name': 'turn_on', 'description': 'Turns on a light', 'parameters': {'type': 'object', 'required': ['area'], 'properties': {'area': {'type': 'string'}, 'percent': {'type': 'integer'}}}}])

T = json.dumps
def j(*rows): return '\n'.join(T(r, ensure_ascii=False) for r in rows)+'\n'
def sg(*turns, **more): return {'conversations': [{'from': a, 'value': b} for a, b in turns]} | more
ask = ('human', '开灯')
def says(text): return j(sg(ask, ('gpt', text)))
def call(n, a): return {'role': 'assistant', 'tool_calls': [{'type': 'function', 'function': {'name': n, 'arguments': a}}]}
U = {'role': 'user', 'content': '开灯'}
FN = {'name': 'w', 'description': '', 'parameters': {'type': 'dict', 'required': ['loc'], 'properties': {'loc': {'type': 'string'}, 'n': {'type': 'integer'}}}}
def q(**m): return {'id': 'q_0', 'question': [[{'role': 'user', 'content': '?'}]], 'function': [FN]} | m
SYS = 'Use <tools>[{"tool_name": "turn_on", "description": "", "input_args": {"area": "str"}}]</tools>'
def trace(*said, **m): return {'query': 'x', 'trace': [{'role': 'system', 'content': SYS}, {'role': 'user', 'content': 'x'}] + [{'role': r, 'content': c} for r, c in said]} | m
TC = '<tool_call>{"tool_name": "turn_on", "args": {"area": "a"}}</tool_call>'
H = 'User Prompt,Tool Name,Tool Args'
cases = { # name -> (file, content, the fault)
    # ShareGPT
    'conversation is text': ('a.jsonl', j({'conversations': 'hello'}),
        'a.jsonl, row 1, column \'conversations\': not valid JSON: Expecting value at character 1 (seen: hello) (expected: [{"from": "human", "value": …}, …])'),
    'conversation is a number': ('a.jsonl', j({'conversations': 7}),
        'a.jsonl, row 1, column \'conversations\': a conversation is a list (seen: 7) (expected: [{"from": "human", "value": …}, …])'),
    'turn without a speaker': ('a.jsonl', j({'conversations': [{'value': 'x'}]}),
        'a.jsonl, row 1, column \'conversations[0]\': a turn says who speaks (seen: {\'value\': \'x\'}) (expected: {"from": "human" | "gpt" | …, "value": …})'),
    'turn is text': ('a.jsonl', j({'conversations': ['x', 'y']}),
        ['a.jsonl, row 1, column \'conversations[0]\': a turn says who speaks (seen: x) (expected: {"from": "human" | "gpt" | …, "value": …})', 'a.jsonl, row 1, column \'conversations[1]\': a turn says who speaks (seen: y) (expected: {"from": "human" | "gpt" | …, "value": …})']),
    'unknown speaker': ('a.jsonl', j(sg(('narrator', 'x'), ('gpt', 'y'))),
        "a.jsonl, row 1, column 'conversations[0]': unknown role (seen: narrator) (expected: developer | system | user | assistant | tool)"),
    'empty conversation': ('a.jsonl', j(sg()),
        'a.jsonl, row 1, column \'messages\': at least a command and an answer are needed (seen: []) (expected: [{"role": "user", …}, {"role": "assistant", …}])'),
    'no answer': ('a.jsonl', j(sg(ask, ('human', '快'))),
        "a.jsonl, row 1, column 'conversations[1]': the last message is the answer (seen: user) (expected: assistant)"),
    'empty answer': ('a.jsonl', j(sg(ask, ('gpt', ''))),
        "a.jsonl, row 1, column 'conversations[1].value': empty message (expected: text or calls)"),
    'nobody asks': ('a.jsonl', j(sg(('gpt', 'a'), ('gpt', 'b'))),
        "a.jsonl, row 1, column 'messages': nobody asks anything (expected: a message of the user)"),
    'value is a number': ('a.jsonl', j(sg(ask, ('gpt', 5))),
        "a.jsonl, row 1, column 'conversations[1].value': content is text (seen: 5) (expected: text)"),
    'observation without a call': ('a.jsonl', j(sg(ask, ('observation', 'ok'), ('gpt', 'x'))),
        'a.jsonl, row 1, column \'conversations[1].value\': a tool response needs a name (seen: {\'value\': \'ok\'}) (expected: {"name": …, "response": {…}})'),
    'tools are no JSON': ('a.jsonl', j(sg(ask, ('gpt', '好'), tools='[{')),
        "a.jsonl, row 1, column 'tools': not valid JSON: Expecting property name enclosed in double quotes at character 3 (seen: [{) (expected: […])"),
    'tools are an object': ('a.jsonl', j(sg(ask, ('gpt', '好'), tools='{"name": "x"}')),
        'a.jsonl, row 1, column \'tools\': tools are a list (seen: {"name": "x"}) (expected: […])'),
    'tool without a name': ('a.jsonl', j(sg(ask, ('gpt', '好'), tools=[{'function': {'description': 'x'}}])),
        "a.jsonl, row 1, column 'tools[0].function.name': a tool needs a name (seen: None) (expected: one word without spaces or braces)"),
    # calls as text
    'unclosed tag': ('a.jsonl', says('<tool_call>{"name": "turn_on", "arguments": {}}'),
        'a.jsonl, row 1, column \'conversations[1].value\': looks like a call, but is none: a <tool_call> is not closed (seen: <tool_call>{"name": "turn_on", "arguments": {}}) (expected: a whole call)'),
    'tag with broken JSON': ('a.jsonl', says('<tool_call>{"name": "turn_on", "arguments": {}</tool_call>'),
        'a.jsonl, row 1, column \'conversations[1].value\': looks like a call, but is none: not valid JSON: Expecting \',\' delimiter at character 36 (seen: <tool_call>{"name": "turn_on", "arguments": {}</tool_call>) (expected: a whole call)'),
    'tag with an answer': ('a.jsonl', says('<tool_call>turn_on(area=客厅)</tool_call>'),
        "a.jsonl, row 1, column 'conversations[1].value': looks like a call, but is none: not valid JSON: Expecting value at character 1 (seen: <tool_call>turn_on(area=客厅)</tool_call>) (expected: a whole call)"),
    'tag with a list of text': ('a.jsonl', says('<tool_call>["turn_on"]</tool_call>'),
        'a.jsonl, row 1, column \'conversations[1].value\': looks like a call, but is none (seen: [["turn_on"]]) (expected: {"tool_name": "…", "arguments": {…}})'),
    'arguments are a list': ('a.jsonl', says('{"tool_name": "turn_on", "arguments": ["客厅"]}'),
        'a.jsonl, row 1, column \'conversations[1].value\': looks like a call, but is none (seen: [{"tool_name": "turn_on", "arguments": ["客厅"]}]) (expected: {"tool_name": "…", "arguments": {…}})'),
    'arguments are broken text': ('a.jsonl', says('{"tool_name": "turn_on", "arguments": "{area}"}'),
        'a.jsonl, row 1, column \'conversations[1].value\': looks like a call, but is none (seen: [{"tool_name": "turn_on", "arguments": "{area}"}]) (expected: {"tool_name": "…", "arguments": {…}})'),
    'words after the call': ('a.jsonl', says('{"tool_name": "turn_on", "arguments": {"area": "客厅"}}\n开好了'),
        'a.jsonl, row 1, column \'conversations[1].value\': does not come back the same when it is written in its own notation (seen: "开好了") (expected: nothing)'),
    'a key that would be lost': ('a.jsonl', says('<tool_call>{"name": "turn_on", "arguments": {"area": "客厅"}, "reason": "asked"}</tool_call>'),
        'a.jsonl, row 1, column \'conversations[1].value\': does not come back the same when it is written in its own notation (seen: {"name": "turn_on", "arguments": {"area": "客厅"}, "reason": "asked"}) (expected: {"name": "turn_on", "arguments": {"area": "客厅"}})'),
    'two notations': ('a.jsonl', says('[{"name": "turn_on", "arguments": {"area": "a"}}, {"tool_name": "turn_on", "args": {"area": "b"}}]'),
        'a.jsonl, row 1, column \'conversations[1].value\': does not come back the same when it is written in its own notation (seen: [{"name": "turn_on", "arguments": {"area": "a"}}, {"tool_name": "turn_on", "arg…) (expected: [{"name": "turn_on", "arguments": {"area": "a"}}, {"name": "turn_on", "argument…)'),
    'own format, not closed': ('a.jsonl', says('<start_function_call>call:turn_on{area:<escape>客厅}<end_function_call>'),
        "a.jsonl, row 1, column 'conversations[1].value': looks like a call, but is none: a call that cannot be read to its end (seen: <start_function_call>call:turn_on{area:<escape>客厅}<end_function_call>) (expected: a whole call)"),
    'own format, no name': ('a.jsonl', says('<start_function_call>call:{}<end_function_call>'),
        "a.jsonl, row 1, column 'conversations[1].value': looks like a call, but is none: a call that cannot be read to its end (seen: <start_function_call>call:{}<end_function_call>) (expected: a whole call)"),
    'own format, text behind': ('a.jsonl', says('<start_function_call>call:turn_on{area:<escape>客厅<escape>}<end_function_call>好'),
        'a.jsonl, row 1, column \'conversations[1].value\': does not come back the same when it is written in its own notation (seen: "好") (expected: nothing)'),
    'a key twice in a call': ('a.jsonl', says('{"tool_name": "turn_on", "args": {"area": "a", "area": "b"}}'),
        'a.jsonl, row 1, column \'conversations[1].value\': looks like a call, but is none: key \'area\' occurs twice (seen: {"tool_name": "turn_on", "args": {"area": "a", "area": "b"}}) (expected: a whole call)'),
    'unknown tool in text': ('a.jsonl', says('{"tool_name": "turnon", "arguments": {"area": "客厅"}}'),
        "a.jsonl, row 1, column 'conversations[1].value.tool_calls[0].function.name': unknown tool (seen: turnon) (expected: turn_on (nearest))"),
    'wrong type in text': ('a.jsonl', says('```json\n{"tool_name": "turn_on", "arguments": {"area": 5}}\n```'),
        "a.jsonl, row 1, column 'conversations[1].value.tool_calls[0].function.arguments.area': wrong type (seen: 5, integer) (expected: string)"),
    'missing argument, second call': ('a.jsonl', says(TC.replace('"a"}', '"客厅"}')+'\n<tool_call>{"tool_name": "turn_on", "args": {}}</tool_call>'),
        "a.jsonl, row 1, column 'conversations[1].value.tool_calls[1].function.arguments.area': required argument is missing (expected: area)"),
    'OpenAI arguments broken': ('a.jsonl', j({'messages': [U, call('turn_on', '{"area": ')]}),
        'a.jsonl, row 1, column \'messages[1].tool_calls[0].function.arguments\': not valid JSON: Expecting value at character 10 (seen: {"area": ) (expected: {…})'),
    'OpenAI call without function': ('a.jsonl', j({'messages': [U, {'role': 'assistant', 'tool_calls': [{'id': 'x'}]}]}),
        'a.jsonl, row 1, column \'messages[1].tool_calls[0].function\': not a call (seen: {\'id\': \'x\'}) (expected: {"function": {"name": …, "arguments": {…}}})'),
    'calls of the user': ('a.jsonl', j({'messages': [U | {'tool_calls': []}, {'role': 'assistant', 'content': 'x'}]}),
        "a.jsonl, row 1, column 'messages[0].tool_calls': calls are a list, and the assistant's (seen: []) (expected: […])"),
    # Alpaca
    'instruction is a number': ('a.json', T([{'instruction': 5, 'output': 'x'}]),
        "a.json, row 1, column 'instruction': this is said, so it is text (seen: 5) (expected: text)"),
    'no output': ('a.json', T([{'instruction': 'x', 'output': ''}]),
        "a.json, row 1, column 'output': empty message (expected: text or calls)"),
    'nothing asked': ('a.json', T([{'instruction': '', 'input': '', 'output': 'x'}]),
        "a.json, row 1, column 'input': empty message (expected: text or calls)"),
    'history of one': ('a.json', T([{'instruction': 'x', 'output': 'y', 'history': [['a']]}]),
        'a.json, row 1, column \'history\': history is a list of pairs (seen: [[\'a\']]) (expected: [["command", "answer"], …])'),
    'history is text': ('a.json', T([{'instruction': 'x', 'output': 'y', 'history': 'a: b'}]),
        'a.json, row 1, column \'history\': not valid JSON: Expecting value at character 1 (seen: a: b) (expected: [["command", "answer"], …])'),
    'control token in a system text': ('a.json', T([{'instruction': 'x', 'output': 'y', 'system': '<bos>'}]),
        "a.json, row 1, column 'system': control token <bos> in the text (seen: <bos>) (expected: text without control tokens)"),
    'alpaca unknown split': ('a.csv', 'instruction,output,Split\nx,y,holdout\n',
        "a.csv, row 2, column 'Split': unknown split (seen: holdout) (expected: train, validation, test or an empty cell)"),
    'alpaca value under no header': ('a.csv', 'instruction,output,\nx,y,z\n',
        "a.csv, row 2, column 'number 3': a value under no header (seen: z) (expected: a header above it, or an empty cell)"),
    'alpaca misspelt label': ('a.json', T([{'instruction': 'x', 'output': 'y', 'Spilt': 'test'}]),
        "a.json, row 1, column 'Spilt': unknown key, very like a known one (seen: Spilt) (expected: Split, or a name less like it)"),
    # traces
    'trace is broken text': ('a.jsonl', j({'trace': '[{', 'query': 'x'}),
        'a.jsonl, row 1, column \'trace\': not valid JSON: Expecting property name enclosed in double quotes at character 3 (seen: [{) (expected: [{"role": …, "content": …}, …])'),
    'a key twice but for blanks': ('a.jsonl', j({'messages': [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}], 'messages ': 1}),
        "a.jsonl, row 1, column 'messages ': this key occurs twice, but for blanks (seen: 'messages ') (expected: one of them)"),
    'trace is an object': ('a.jsonl', j({'trace': {'a': 1}}),
        'a.jsonl, row 1, column \'trace\': a trace is a list of messages (seen: {\'a\': 1}) (expected: [{"role": …, "content": …}, …])'),
    'trace calls an undeclared tool': ('a.jsonl', j(trace(('assistant', TC.replace('turn_on', 'turn_up')))),
        "a.jsonl, row 1, column 'trace[2].content.tool_calls[0].function.name': unknown tool (seen: turn_up) (expected: turn_on (nearest))"),
    'trace says a tool is needed': ('a.jsonl', j(trace(('assistant', 'x'), tool_needed=True)),
        "a.jsonl, row 1, column 'tool_needed': a tool is said to be needed, but the trace calls none (seen: True) (expected: a call in the trace)"),
    'trace says none is needed': ('a.jsonl', j(trace(('assistant', TC), tool_needed=False)),
        "a.jsonl, row 1, column 'tool_needed': no tool is said to be needed, but the trace calls one (seen: turn_on) (expected: an answer in words)"),
    'trace calls another tool': ('a.jsonl', j(trace(('assistant', TC), tool_name='search')),
        "a.jsonl, row 1, column 'tool_name': the trace first calls another tool (seen: turn_on) (expected: search)"),
    'trace with broken tools': ('a.jsonl', j({'trace': [{'role': 'system', 'content': '<tools>[{]</tools>'}, {'role': 'user', 'content': 'x'}, {'role': 'assistant', 'content': 'y'}]}),
        "a.jsonl, row 1, column 'trace[0].content': the tools between <tools> tags: not valid JSON: Expecting property name enclosed in double quotes at character 3 (seen: [{]) (expected: […])"),
    'trace ends in a result': ('a.jsonl', j(trace(('assistant', TC), ('user', '<tool_result>1</tool_result>'))),
        "a.jsonl, row 1, column 'trace[3]': the last message is the answer (seen: tool) (expected: assistant)"),
    # BFCL
    'questions without answers': ('a.json', j(q()),
        'a.json: a file of questions without their answers (expected: the file of accepted answers as possible_answer/a.json (irrelevance has none: there is no reply to learn))'),
    'answers without questions': ('a.json', j({'id': 'q_0', 'ground_truth': []}),
        'a.json: accepted answers without their questions (expected: the file of questions, beside whose folder this one lies)'),
    'no answer to a question': ('b/a.json', (j(q()), j({'id': 'q_1', 'ground_truth': [{'w': {'loc': ['x']}}]})),
        ["possible_answer/a.json, column 'id': an answer to no question (seen: q_1) (expected: an id of b/a.json)", "b/a.json, row 1, column 'id': no answer to this question (seen: q_0) (expected: the same id among the accepted answers)"]),
    'several turns': ('b/a.json', (j(q(question=[[], []])), j({'id': 'q_0', 'ground_truth': []})),
        "b/a.json, row 1, column 'question': a question of several turns (seen: 2 turns) (expected: one turn: several are played against classes that are not in the file)"),
    'unknown type': ('b/a.json', (j(q(function=[FN | {'parameters': {'type': 'dict', 'properties': {'t': {'type': 'Date'}}}}])), j({'id': 'q_0', 'ground_truth': []})),
        "b/a.json, row 1, column 'function[0].parameters.properties.t.type': unknown type (seen: Date) (expected: Array, ArrayList, Boolean, HashMap, String, any, array, bool, boolean, dict, double, float, int, integer, list, long, null, number, object, str, string, tuple)"),
    'answer is no list': ('b/a.json', (j(q()), j({'id': 'q_0', 'ground_truth': [{'w': {'loc': 'x'}}]})),
        "b/a.json, row 1, column 'ground_truth[0].w.loc': not in the form of an accepted answer (seen: x) (expected: a list of accepted values)"),
    'answers are broken': ('b/a.json', (j(q()), '{"id": "q_0"\n'),
        'b/possible_answer/a.json, row 2: not valid JSON: Expecting \',\' delimiter at character 14 (seen: {"id": "q_0"⏎) (expected: {"id": …, "ground_truth": […]})'),
    'answer breaks its schema': ('b/a.json', (j(q()), j({'id': 'q_0', 'ground_truth': [{'w': {'loc': ['x'], 'n': ['two']}}]})),
        'b/a.json, row 1, column \'ground_truth.tool_calls[0].function.arguments.n\': wrong type (seen: "two", string) (expected: integer)'),
    'answer calls another function': ('b/a.json', (j(q()), j({'id': 'q_0', 'ground_truth': [{'v': {}}]})),
        "b/a.json, row 1, column 'ground_truth.tool_calls[0].function.name': unknown tool (seen: v) (expected: one of w)"),
    # JSON
    'JSON breaks on line 3': ('a.json', '[\n{"instruction": "x",\n"output": }]',
        'a.json, row 3: not valid JSON: Expecting value at character 34 (seen: [⏎{"instruction": "x",⏎"output": }]) (expected: JSON: a list of objects)'),
    'JSON holds a number': ('a.json', '7',
        'a.json, row 1: not a JSON object (seen: 7) (expected: an object for every row)'),
    'JSON list of text': ('a.json', '["a"]',
        'a.json, row 1: not a JSON object (seen: a) (expected: an object for every row)'),
    'JSON of nothing': ('a.json', '[]',
        'a.json: nothing in it (expected: at least one object)'),
    'JSON nested too deeply': ('a.json', '['*500+']'*500,
        'a.json, row 1: nested too deeply (seen: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[…) (expected: JSON: a list of objects)'),
    'JSON with NaN': ('a.json', '[{"instruction": NaN, "output": "x"}]',
        'a.json, row 1: NaN is no number that JSON can hold (seen: [{"instruction": NaN, "output": "x"}]) (expected: JSON: a list of objects)'),
    'JSON in latin-1': ('a.json', '[{"instruction": "café", "output": "x"}]'.encode('latin-1'),
        'a.json, row 1: the text is in no encoding that is read here (seen: byte 0xe9) (expected: UTF-8 (Excel: "CSV UTF-8") or GB18030)'),
    'Korean in EUC-KR': ('a.csv', (H+'\n거실 불을 켜 주세요,none,\n').encode('euc-kr'),
        'a.csv, row 2: the text is in no encoding that is read here (seen: byte 0xb0) (expected: UTF-8 (Excel: "CSV UTF-8") or GB18030)'),
    'Japanese in EUC-JP': ('a.csv', (H+'\n電気をつけて,none,\n').encode('euc-jp'),
        'a.csv, row 2: the text is in no encoding that is read here (seen: byte 0xc5) (expected: UTF-8 (Excel: "CSV UTF-8") or GB18030)'),
    'UTF-16 cut in the middle': ('a.csv', (H+'\n').encode('utf-16')[:-1],
        'a.csv, row 1: the text is in no encoding that is read here (seen: byte 0x0a) (expected: UTF-8 (Excel: "CSV UTF-8") or GB18030)'),
    # sheets: several calls, a question back, earlier turns
    'fewer objects than tools': ('a.csv', H+'\n开灯,turn_on;turn_on,"[{""area"": ""a""}]"\n',
        'a.csv, row 2, column \'Tool Args\': 2 tools, but arguments for 1 (seen: [{"area": "a"}]) (expected: a JSON list with one object a tool)'),
    'one object is none': ('a.csv', H+'\n开灯,turn_on,"[{""area"": ""a""}, 5]"\n',
        'a.csv, row 2, column \'Tool Args\': arguments are not a JSON object (seen: [{"area": "a"}, 5]) (expected: a JSON object such as {"area": "客厅"})'),
    'second call misses an argument': ('a.csv', H+'\n开灯,turn_on;turn_on,"[{""area"": ""a""}, {}]"\n',
        "a.csv, row 2, column 'Tool Args.2.area': required argument is missing (expected: area)"),
    'second tool is unknown': ('a.csv', H+'\n开灯,turn_on;turn_of,"[{""area"": ""a""}, {}]"\n',
        "a.csv, row 2, column 'Tool Name': unknown tool (seen: turn_of) (expected: turn_on (nearest))"),
    'none beside a call': ('a.csv', H+'\n开灯,turn_on;none,"[{""area"": ""a""}, {}]"\n',
        "a.csv, row 2, column 'Tool Name': no call beside a call (seen: none) (expected: tools only, or none alone)"),
    'question back without a question': ('a.csv', H+'\n开灯,反问,\n',
        "a.csv, row 2, column 'Reply': empty cell (expected: the answer in words, as this row wants no call)"),
    'question back with arguments': ('a.csv', H+',Reply\n开灯,ask_back,"{""area"": ""a""}",哪个？\n',
        'a.csv, row 2, column \'Tool Args\': arguments without a tool (seen: {"area": "a"}) (expected: an empty cell)'),
    'history without speakers': ('a.csv', H+',History\n客厅,turn_on,"{""area"": ""客厅""}",开灯\n',
        "a.csv, row 2, column 'History': nobody is said to speak (seen: 开灯) (expected: lines that begin with user: or assistant:, or a JSON list of messages)"),
    'history is broken JSON': ('a.csv', H+',历史\n客厅,turn_on,"{""area"": ""客厅""}","[{"\n',
        "a.csv, row 2, column '历史': not valid JSON: Expecting property name enclosed in double quotes at character 3 (seen: [{) (expected: lines that begin with user: or assistant:, or a JSON list of messages)"),
    'history calls an unknown tool': ('a.csv', H+',历史\n客厅,turn_on,"{""area"": ""客厅""}","user: a\nassistant: {""tool_name"": ""x"", ""args"": {}}"\n',
        "a.csv, row 2, column '历史': unknown tool (seen: x) (expected: one of turn_on)"),
    'text for an integer': ('a.csv', H+'\n开灯,turn_on,"{""area"": ""a"", ""percent"": ""20""}"\n',
        'a.csv, row 2, column \'Tool Args.percent\': wrong type (seen: "20", string) (expected: integer)'),
    'a fraction for an integer': ('a.csv', H+'\n开灯,turn_on,"{""area"": ""a"", ""percent"": 20.5}"\n',
        "a.csv, row 2, column 'Tool Args.percent': wrong type (seen: 20.5, number) (expected: integer)"),
    # messages and tables
    'messages are broken text': ('a.csv', 'messages,id\n"[{",1\n',
        'a.csv, row 2, column \'messages\': not valid JSON: Expecting property name enclosed in double quotes at character 3 (seen: [{) (expected: [{"role": "user", …}, {"role": "assistant", …}])'),
    'messages are a number': ('a.jsonl', j({'messages': 5}),
        'a.jsonl, row 1, column \'messages\': messages are a list (seen: 5) (expected: [{"role": "user", …}, {"role": "assistant", …}])'),
    'extra is text': ('a.jsonl', j({'messages': [U, {'role': 'assistant', 'content': 'x'}], 'extra': 'note'}),
        "a.jsonl, row 1, column 'extra': not valid JSON: Expecting value at character 1 (seen: note) (expected: {…})"),
    'a table that was edited': ('a.csv', 'messages,command,calls\n"[{""role"": ""user"", ""content"": ""a""}, {""role"": ""assistant"", ""content"": ""b""}]",other,[]\n',
        "a.csv, row 2, column 'command': the messages say something else than this column (seen: other) (expected: a)"),
    'source is a list': ('a.jsonl', j({'messages': [U, {'role': 'assistant', 'content': 'x'}], 'source': [1]}),
        "a.jsonl, row 1, column 'source': source is an object (seen: [1]) (expected: {…})"),
    'no Parquet': ('a.parquet', b'PAR1 nothing',
        'a.parquet: not a Parquet file: …'),
    'bad name on the hub': ('hub:nobody', None,
        'hub:nobody: not the name of a data set (expected: hub:owner/name or hub:owner/name:split)'),
}


def put(folder, file, content):
    "The file of a case; a pair is questions and their accepted answers."
    if content is None: return file
    path = folder/file
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, tuple):
        (path.parent/'possible_answer').mkdir()
        (path.parent/'possible_answer'/path.name).write_text(content[1], encoding='utf-8')
        content = content[0]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize('name', cases)
def test_bad_input(name, tmp_path):
    "The whole message, and nothing else said."
    file, content, wanted = cases[name]
    examples, faults = collect([put(tmp_path, file, content)], TOOLS)
    said = [str(f).replace(f'{tmp_path}/', '') for f in faults]
    assert examples == [] and len(said) >= 1
    if isinstance(wanted, str) and wanted.endswith(': …'): assert said[0].startswith(wanted[:-1]) # the rest is the library's own words
    else: assert said == ([wanted] if isinstance(wanted, str) else wanted)


def test_there_are_enough_of_them(): assert len(cases) >= 60


# --- what is good ------------------------------------------------------------------------------------------------------

ROOM = call('turn_on', {'area': '客厅', 'percent': 20})
good = { # name -> (file, content): all hold the same command and call
    'openai': ('a.jsonl', j({'messages': [U, call('turn_on', '{"area": "客厅", "percent": 20}')]})),
    'openai, older form': ('a.jsonl', j({'messages': [U, {'role': 'assistant', 'content': None, 'function_call': {'name': 'turn_on', 'arguments': '{"area": "客厅", "percent": 20}'}}]})),
    'openai as text': ('a.jsonl', says('{"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "turn_on", "arguments": "{\\"area\\": \\"客厅\\", \\"percent\\": 20}"}}]}')),
    'sharegpt, own format': ('a.jsonl', says('<start_function_call>call:turn_on{area:<escape>客厅<escape>,percent:20}<end_function_call><start_function_response>')),
    'sharegpt, tool_call': ('a.jsonl', says('<tool_call>\n{"tool_name": "turn_on", "args": {"area": "客厅", "percent": 20}}\n</tool_call>')),
    'sharegpt, Hermes': ('a.jsonl', says('<tool_call>{"name": "turn_on", "arguments": {"area": "客厅", "percent": 20}}</tool_call>')),
    'sharegpt, MCP': ('a.jsonl', says('{"tool_name": "turn_on", "arguments": {"area": "客厅", "percent": 20}}')),
    'sharegpt, fenced': ('a.jsonl', says('```json\n{"tool_name": "turn_on", "arguments": {"area": "客厅", "percent": 20}}\n```')),
    'sharegpt, function_call': ('a.json', T([sg(ask, ('function_call', '{"name": "turn_on", "arguments": {"area": "客厅", "percent": 20}}'))])),
    'easy-dataset sharegpt': ('a.json', T([{'messages': [U, {'role': 'assistant', 'content': '{"tool_name": "turn_on", "arguments": {"area": "客厅", "percent": 20}}'}]}], indent=2)),
    'easy-dataset alpaca': ('a.json', T([{'instruction': '开灯', 'input': '', 'output': '{"tool_name": "turn_on", "arguments": {"area": "客厅", "percent": 20}}', 'system': ''}])),
    'easy-dataset alpaca CSV': ('a.csv', 'instruction,input,output,system\n,开灯,"{""tool_name"": ""turn_on"", ""arguments"": {""area"": ""客厅"", ""percent"": 20}}",\n'),
    'a number with a point': ('a.tsv', 'User Prompt\tTool Name\tTool Args\n开灯\tturn_on\t{"area": "客厅", "percent": 20.0}\n'),
    'pipes in GB18030': ('a.csv', '用户指令|工具名称|工具参数\n开灯|turn_on|{"area": "客厅", "percent": 20}\n'.encode('gb18030')),
    'list in an object': ('a.json', T({'version': 1, 'data': [{'user_content': '开灯', 'tool_name': 'turn_on', 'tool_arguments': {'area': '客厅', 'percent': 20}}]})),
}


@pytest.mark.parametrize('name', good)
def test_good_input(name, tmp_path):
    [example] = read_examples(put(tmp_path, *good[name]), TOOLS)
    assert command(example) == '开灯' and same_value(example['messages'][-1]['tool_calls'], ROOM['tool_calls'])


def test_parallel_ask_back_history_in_a_workbook(tmp_path):
    "Every kind of row in a sheet, written as a sheet again, gives the same rows."
    rows = [['User Prompt', 'Tool Name', 'Tool Args', 'Reply', 'History'], ['都开', 'turn_on\nturn_on', '[{"area": "a"}, {"area": "b", "percent": 5}]'], ['两盏', 'turn_on', '{"area": "a"}\n{"area": "b"}'],
            ['开灯', 'ask_back', None, '哪个房间？'], ['客厅', 'turn_on', '{"area": "客厅"}', None, 'user: 开灯\nassistant: 哪个房间？'], ['唱歌', '无', None, '不会。']]
    examples = read_examples(sheet(tmp_path/'a.xlsx', *rows), TOOLS)
    assert [answer_kind(e) for e in examples] == ['parallel', 'parallel', 'ask_back', 'multi_turn', 'no_call'] and examples[2]['kind'] == 'ask_back'
    cells = [sheet_row(e) for e in examples]
    again = read_examples(sheet(tmp_path/'b.xlsx', list(cells[0]), *(list(c.values()) for c in cells)), TOOLS)
    assert [(e['messages'], e['kind'], e['id']) for e in again] == [(e['messages'], e['kind'], e['id']) for e in examples]


def test_formulas_and_hidden_sheets(tmp_path):
    "A formula without its value is a fault with its place, a stored one is read, a hidden sheet is told."
    wb = openpyxl.Workbook()
    wb.active.append(['User Prompt', 'Tool Name', 'Tool Args']); wb.active.append(['=A9&"<x>"', 'none', None]); wb.active.append(['b', '#REF!', '{}'])
    wb.create_sheet('May').append(['User Prompt', 'Tool Name', 'Tool Args']); wb['May'].append(['on', 'turn_on', '{"area": "a"}']); wb['May'].sheet_state = 'hidden'
    wb.save(tmp_path/'a.xlsx')
    read = read_all([tmp_path/'a.xlsx'], TOOLS)
    assert [(f.row, f.column, f.seen) for f in read.faults if f.code == 'formula'] == [(2, 'User Prompt', '=A9&"<x>"'), (3, 'Tool Name', '#REF!')]
    assert [n.message for n in read.notes] == ['a hidden sheet, read like the others'] and [command(e) for e in read.examples] == ['on']
    with zipfile.ZipFile(tmp_path/'a.xlsx') as z: parts = {n: z.read(n) for n in z.namelist()}
    sheet = parts['xl/worksheets/sheet1.xml'].decode()
    assert '<v></v>' in sheet or '<v />' in sheet or '<v/>' in sheet
    parts['xl/worksheets/sheet1.xml'] = sheet.replace('<v></v>', '<v>7</v>').replace('<v />', '<v>7</v>').replace('<v/>', '<v>7</v>').encode() # as Excel saves what it computed
    with zipfile.ZipFile(tmp_path/'b.xlsx', 'w') as z:
        for n, data in parts.items(): z.writestr(n, data)
    assert [f.column for f in read_tables(tmp_path/'b.xlsx')[1] if f.code == 'formula'] == ['Tool Name']


def test_bfcl(tmp_path):
    "Parallel calls, optional arguments, nested accepted values, all of them kept."
    box = {'type': 'dict', 'properties': {'size': {'type': 'string'}, 'ice': {'type': 'boolean'}}}
    fn = {'name': 'order.drink', 'description': '', 'parameters': {'type': 'dict', 'required': ['id', 'want'], 'properties': {'id': {'type': 'string'}, 'want': box, 'price': {'type': 'float'}, 'spot': {'type': 'tuple', 'items': {'type': 'integer'}}, 'x': {'type': 'any'}}}}
    truth = [{'order.drink': {'id': ['123'], 'want': [{'size': ['large', 'L'], 'ice': ['', True]}], 'price': ['', 2.5], 'spot': [[1, 2]], 'x': ['y']}}, {'order.drink': {'id': ['7'], 'want': [{}], 'price': [3]}}]
    [e] = read_examples(put(tmp_path, 'b/BFCL_v4_parallel.json', (j(q(function=[fn])), j({'id': 'q_0', 'ground_truth': truth}))))
    assert same_value([c.arguments for c in gold_calls(e)], [{'id': '123', 'want': {'size': 'large'}, 'spot': [1, 2], 'x': 'y'}, {'id': '7', 'want': {}, 'price': 3}])
    assert e['extra']['accept'] == truth and e['tools'][0]['function']['parameters']['type'] == 'object' and e['id'] == 'q_0'


def test_traces_that_call_undeclared_tools(tmp_path):
    "Of many traces exactly those whose call is not declared are faults, each with its line."
    rows = [trace(('assistant', TC.replace('turn_on', 'search' if i % 5 == 0 else 'turn_on').replace('"a"', f'"{i}"')), query=f'{i}') for i in range(40)]
    for i, r in enumerate(rows): r['trace'][1]['content'] = f'command {i}'
    write_jsonl(tmp_path/'t.jsonl', rows)
    read = read_all([tmp_path/'t.jsonl'])
    assert [(f.row, f.code) for f in read.faults] == [(i+1, 'unknown-tool') for i in range(0, 40, 5)] and len(read.examples) == 32 and read.styles == {'tool_call': 40}


def test_coerce_only_when_asked(tmp_path):
    (tmp_path/'a.csv').write_text(H+'\non,turn_on,"{""area"": 7, ""percent"": ""20""}"\n', encoding='utf-8')
    assert len(collect([tmp_path/'a.csv'], TOOLS)[1]) == 2
    read = read_all([tmp_path/'a.csv'], TOOLS, coerce=True)
    assert not read.faults and gold_calls(read.examples[0])[0].arguments == {'area': '7', 'percent': 20} and [(n.column, n.seen, n.expected) for n in read.notes] == [('Tool Args.area', '7', '"7"'), ('Tool Args.percent', '"20"', '20')]


# --- tables ------------------------------------------------------------------------------------------------------------

def some(n=4):
    area = lambda i: {'area': f'房间 {i}'} | ({'percent': i} if i % 2 else {})
    return [{'messages': [{'role': 'user', 'content': f'on {i}'}, call('turn_on', area(i))]} for i in range(n)]


def test_nested_parquet_and_data_set(tmp_path):
    "Arrow's invented nulls are left out and told; the rows are those of the JSON lines."
    pa, pq, datasets = pytest.importorskip('pyarrow'), pytest.importorskip('pyarrow.parquet'), pytest.importorskip('datasets')
    datasets.disable_progress_bars()
    write_jsonl(tmp_path/'a.jsonl', some())
    pq.write_table(pa.Table.from_pylist(some()), tmp_path/'nested.parquet')
    datasets.DatasetDict({'train': datasets.Dataset.from_list(some()), 'test': datasets.Dataset.from_list([{'messages': [{'role': 'user', 'content': 'x'}, call('turn_on', {'area': 'y'})]}])}).save_to_disk(tmp_path/'set')
    plain = read_examples(tmp_path/'a.jsonl', TOOLS)
    read = read_all([tmp_path/'nested.parquet'], TOOLS)
    assert not read.faults and [e['messages'] for e in read.examples] == [e['messages'] for e in plain]
    assert {n.row for n in read.notes if n.code == 'invented-null'} == {1, 2, 3, 4} and any('arguments.percent' in n.seen for n in read.notes)
    read = read_all([tmp_path/'set'], TOOLS)
    assert not read.faults and [e['messages'] for e in read.examples][:4] == [e['messages'] for e in plain] and Counter(e['split'] for e in read.examples) == {'train': 4, 'test': 1}
    with pytest.warns(UserWarning, match='invented nulls'): read_examples(tmp_path/'nested.parquet', TOOLS)


@pytest.mark.parametrize('name', ['rows.csv', 'rows.parquet', 'rows'])
def test_written_tables_read_back(name, tmp_path):
    write_jsonl(tmp_path/'a.jsonl', some())
    examples = read_examples(tmp_path/'a.jsonl', TOOLS)
    assert read_examples(write_table(tmp_path/name, examples)) == examples
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('.')] == []


def test_canary(tmp_path):
    "A table that lost something on its way is refused, with the row."
    write_jsonl(tmp_path/'a.jsonl', some())
    table = to_table(read_examples(tmp_path/'a.jsonl', TOOLS))
    for column, value in (('messages', table['messages'][1].replace('房间 1', '房间 9')), ('messages', '[1]'), ('tools', '{'), ('extra', '5'), ('source', None)):
        edited = table.copy(); edited.loc[1, column] = value
        with pytest.raises(FaultError) as caught: from_table(edited)
        assert [f.row for f in caught.value.faults][0] == 2


# --- convert ------------------------------------------------------------------------------------------------------------

def test_convert(tmp_path):
    "Rows in, rows out; the written file is read as the same rows; converting it again changes no byte."
    write_jsonl(tmp_path/'a.jsonl', [sg(('human', f'on {i}'), ('gpt', T({'tool_name': 'turn_on', 'arguments': {'area': f'a{i}', 'percent': 1.0*i}}))) for i in range(5)])
    report = convert(tmp_path/'a.jsonl', tmp_path/'b.jsonl', TOOLS)
    assert (report.rows, report.examples, report.kinds, report.styles, len(report.coercions)) == (5, 5, {'call': 5}, {'json': 5}, 5)
    assert 'rows in: 5, rows out: 5 (5 call)' in str(report) and set(report.round_trips.values()) == {5}
    again = convert(tmp_path/'b.jsonl', tmp_path/'c.jsonl', tmp_path/'b.tools.json')
    assert (tmp_path/'b.jsonl').read_bytes() == (tmp_path/'c.jsonl').read_bytes() and not again.coercions


def test_convert_is_all_or_nothing(tmp_path):
    write_jsonl(tmp_path/'a.jsonl', [sg(ask, ('gpt', '{"tool_name": "turn_on", "arguments": {}}')), sg(('human', 'b'), ('gpt', 'c'))])
    (tmp_path/'b.jsonl').write_text('old', encoding='utf-8')
    for bad in ({}, {'out': 'a.jsonl'}, {'out': 'b.xlsx'}):
        with pytest.raises(FaultError): convert(tmp_path/'a.jsonl', tmp_path/bad.get('out', 'b.jsonl'), TOOLS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.jsonl', 'b.jsonl'] and (tmp_path/'b.jsonl').read_text(encoding='utf-8') == 'old'
    assert convert(tmp_path/'a.jsonl', tmp_path/'b.jsonl', TOOLS, skip=True).examples == 1
    with pytest.raises(FaultError, match='no such file'): convert([tmp_path/'a.jsonl', tmp_path/'gone.csv'], tmp_path/'d.jsonl', TOOLS, skip=True)


def test_rows_keep_tools_of_their_own(tmp_path):
    other = [{'type': 'function', 'function': {'name': 'turn_on', 'description': 'Another', 'parameters': {'type': 'object', 'properties': {}}}}]
    write_jsonl(tmp_path/'a.jsonl', [some(1)[0], {'tools': other, 'messages': [U, call('turn_on', {})]}, {'tools': [], 'messages': [{'role': 'user', 'content': 'hi'}, {'role': 'assistant', 'content': 'x'}]}])
    report = convert(tmp_path/'a.jsonl', tmp_path/'b.jsonl', TOOLS)
    assert [n.code for n in report.notes] == ['tools-differ']
    assert [e['tools'] for e in read_examples(tmp_path/'b.jsonl', tmp_path/'b.tools.json')] == [TOOLS, other, []]


def test_carriage_return(tmp_path):
    "A carriage return inside a text, alone or before a line feed, survives every table and a CSV that is written."
    rows = [{'id': '0\r0', 'user_content': 'on\rnow', 'tool_name': 'turn_on', 'tool_arguments': '{"area": "a\\r"}'}, {'id': '1', 'user_content': 'a\r\nb', 'tool_name': 'turn_on', 'tool_arguments': '{"area": "b"}'}]
    (tmp_path/'a.jsonl').write_text(j(*rows), encoding='utf-8')
    examples = read_examples(tmp_path/'a.jsonl', TOOLS)
    assert set(round_trip(examples).values()) == {2}
    assert read_examples(write_table(tmp_path/'b.csv', examples), TOOLS)[0]['messages'] == examples[0]['messages']


def test_bfcl_name_that_is_no_text(tmp_path):
    "A question whose function has a list for a name is a fault, the others are read."
    questions = [{'id': str(i), 'question': [[U]], 'function': f} for i, f in enumerate(([FN], {'name': []}))]
    (tmp_path/'possible_answer').mkdir()
    (tmp_path/'a.json').write_text(j(*questions)); (tmp_path/'possible_answer'/'a.json').write_text(j(*({'id': q['id'], 'ground_truth': [{'w': {'loc': ['x']}}]} for q in questions)))
    examples, faults = collect([tmp_path/'a.json'], TOOLS)
    assert len(examples) == 1 and faults and all(f.row == 2 for f in faults)


# --- fuzz ---------------------------------------------------------------------------------------------------------------

leaf = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8) | st.sampled_from(
    ['user', 'assistant', 'tool', 'human', 'gpt', 'turn_on', TC, '{"tool_name": "turn_on", "args": {"area": "a"}}', SYS, '[]', '{}', '[{', '<tool_call>', '```json\n{"name": "x", "args": {}}\n```', '<start_function_call>call:a{', '<tool_result>1</tool_result>'])
keys = st.sampled_from(['messages', 'conversations', 'trace', 'instruction', 'input', 'output', 'system', 'history', 'tools', 'functions', 'question', 'function', 'id', 'ground_truth', 'split', 'source', 'extra', 'role', 'content', 'from', 'value',
                        'tool_calls', 'name', 'arguments', 'parameters', 'properties', 'type', 'tool_name', 'args', 'user_content', 'tool_arguments', 'History', 'tool_needed', 'tool_call_id', 'function_call', 'command', 'calls']) | st.text(max_size=3)
anything = st.recursive(leaf, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=5), max_leaves=12)
message = st.fixed_dictionaries({}, optional={'role': leaf, 'content': anything, 'tool_calls': anything, 'from': leaf, 'value': anything, 'name': leaf, 'function_call': anything})
talk = st.lists(message, max_size=4) | anything
record = st.dictionaries(keys, anything, max_size=6) | st.fixed_dictionaries({'messages': talk}, optional={'tools': anything, 'extra': anything}) | st.fixed_dictionaries({'conversations': talk}, optional={'tools': anything, 'system': anything}) | \
    st.fixed_dictionaries({'trace': talk}, optional={'tool_needed': leaf, 'tool_name': leaf}) | st.fixed_dictionaries({'instruction': anything, 'output': anything}, optional={'history': anything}) | \
    st.fixed_dictionaries({'user_content': anything, 'tool_name': anything, 'tool_arguments': anything}, optional={'History': talk, 'Reply': anything})
many = settings(max_examples=int(os.environ.get('FGNB_FUZZ', 60)), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large])


def survives(path):
    "Reading raises nothing, or a `FaultError`; what is read goes through every table."
    examples, faults = collect([path], TOOLS)
    assert all(f.message and f.file for f in faults if f.code != 'id')
    if examples: round_trip(examples)


@many
@given(rows=st.lists(record, max_size=4), suffix=st.sampled_from(['.jsonl', '.json']))
def test_fuzz_json(rows, suffix, tmp_path):
    (tmp_path/f'a{suffix}').write_text(j(*rows) if suffix == '.jsonl' else T(rows), encoding='utf-8', errors='surrogatepass')
    survives(tmp_path/f'a{suffix}')


@many
@given(questions=st.lists(st.fixed_dictionaries({'id': leaf, 'question': anything | st.just([[U]]), 'function': anything | st.just([FN])}), min_size=1, max_size=3), answers=st.lists(st.fixed_dictionaries({'id': leaf, 'ground_truth': anything | st.just([{'w': {'loc': ['x']}}])}), max_size=3))
def test_fuzz_bfcl(questions, answers, tmp_path):
    (tmp_path/'possible_answer').mkdir(exist_ok=True)
    for place, rows in ((tmp_path/'a.json', questions), (tmp_path/'possible_answer'/'a.json', answers)): place.write_text(j(*rows), encoding='utf-8', errors='surrogatepass')
    survives(tmp_path/'a.json')


cell = st.sampled_from(['turn_on', 'none', '反问', '{"area": "a"}', '[{"area": "a"}, {}]', 'turn_on;turn_on', 'user: a', '[{"role": "user", "content": 1}]', '', 'x?', '"', ';', '{']) | st.text(max_size=12)


@many
@given(head=st.lists(st.sampled_from(['User Prompt', '工具名称', 'Tool Args', 'Reply', 'History', 'Split', 'messages', 'instruction', 'output', 'conversations', 'tools', '']), min_size=1, max_size=6),
       rows=st.lists(st.lists(cell, max_size=7), max_size=4), delimiter=st.sampled_from(',;\t|'), encoding=st.sampled_from(['utf-8', 'gb18030', 'utf-16']))
def test_fuzz_csv(head, rows, delimiter, encoding, tmp_path):
    text = '\n'.join(delimiter.join('"' + c.replace('"', '""') + '"' if i % 2 else c for i, c in enumerate(line)) for line in [head, *rows])
    (tmp_path/'a.csv').write_bytes(text.encode(encoding, 'ignore'))
    survives(tmp_path/'a.csv')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The bytes of a good file of every kind."
    folder = tmp_path_factory.mktemp('whole')
    sheet(folder/'a.xlsx', [*H.split(','), 'Split'], ['on', 'turn_on', '{"area": "a"}', 'test'], ['=A1', 'none', '', ''])
    write_jsonl(folder/'a.jsonl', some())
    write_table(folder/'a.parquet', read_examples(folder/'a.jsonl', TOOLS))
    write_table(folder/'a.csv', read_examples(folder/'a.jsonl', TOOLS))
    return lambda name: (folder/name).read_bytes()


@many
@given(name=st.sampled_from(['a.xlsx', 'a.jsonl', 'a.parquet', 'a.csv']), edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5), cut=st.none() | st.floats(0, 1))
def test_fuzz_bytes(name, edits, cut, whole, tmp_path):
    data = bytearray(whole(name))
    for at, byte in edits: data[int(at*len(data))] = byte
    (tmp_path/name).write_bytes(bytes(data[:int(cut*len(data))] if cut is not None else data))
    survives(tmp_path/name)


@many
@given(cells=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6), st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(['=A1', '#N/A', 'on', 'none', '{}', 'x'])), max_size=12))
def test_fuzz_workbook(cells, tmp_path):
    wb = openpyxl.Workbook()
    wb.active.append(H.split(','))
    for r, c, v in cells: wb.active.cell(r, c, v)
    wb.save(tmp_path/'a.xlsx')
    survives(tmp_path/'a.xlsx')


words = st.text(st.characters(blacklist_categories=('Cs', 'Cc'), blacklist_characters='<>{}[]"`'), max_size=10).map(str.strip)
arguments = st.dictionaries(st.text('abc_', min_size=1, max_size=5), st.none() | st.booleans() | st.integers(-10**9, 10**9) | st.floats(allow_nan=False, allow_infinity=False) | words | st.lists(words, max_size=2), max_size=3)
styles = st.builds(Style, st.sampled_from(['tool_call', 'json', 'openai']), st.sampled_from(['tool_name', 'name']), st.sampled_from(['args', 'arguments', 'parameters']), st.booleans(), st.booleans(), st.booleans()) | st.just(Style('functiongemma'))


@settings(max_examples=200, deadline=None)
@given(content=words, calls=st.lists(st.builds(Call, st.text('abc_.', min_size=1, max_size=6), arguments), min_size=1, max_size=3), style=styles)
def test_replies_come_back(content, calls, style):
    "What one notation writes is read as the same text and calls, types included."
    if style.kind == 'tool_call' and style.fenced: style = Style('tool_call', style.name, style.args, style.text, style.listed)
    reply, found, problems = read_reply(write_reply(Reply(content, calls), style))
    assert not problems and found.kind == style.kind and reply.content == content
    assert same_value([[c.name, c.arguments] for c in reply.calls], [[c.name, c.arguments] for c in calls])


def test_a_leaderboard_row_among_others_is_told(tmp_path):
    (tmp_path/'a.jsonl').write_text(j({'messages': [{'role': 'user', 'content': 'hi'}, {'role': 'assistant', 'content': 'yes'}]}) + j({'id': '1', 'ground_truth': []}), encoding='utf-8')
    with pytest.raises(FaultError, match='row 2: a row of the Berkeley leaderboard among rows of another kind'): read_examples(tmp_path/'a.jsonl', TOOLS)
