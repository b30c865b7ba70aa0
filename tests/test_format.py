"The wire format against the model's own template, the shared vectors and itself."
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from conftest import SHARED
from fgnb.core import read_jsonl
from fgnb.format import (CONTROL_TOKENS, STOP_TOKENS, Call, Reply, chat_template, check_text, parse, prompt_completion, render, render_call, same_value,
                         spans, survives)

EXAMPLES = int(os.environ.get('FGNB_EXAMPLES', 120))
few = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def vectors(name):
    path = SHARED/'vectors'/f'{name}.jsonl'
    return read_jsonl(path) if path.exists() else []


def each(rows):
    "One test a row; a skipped one, with the remedy, where there are no rows."
    skip = pytest.param(None, id='absent', marks=pytest.mark.skip(reason=f'no vectors in {SHARED}: set FGNB_SHARED to the folder that holds them'))
    return pytest.mark.parametrize('row', [pytest.param(r, id=r['id']) for r in rows] or [skip])


def compiled(source):
    "The template in an environment set up as transformers does."
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    def raise_exception(message): raise ValueError(message)
    env.globals['raise_exception'] = raise_exception
    return env.from_string(source)


def outcome(function, *args, **kwargs):
    "What it returns, or None where it raises."
    try: return function(*args, **kwargs)
    except Exception: return None


def of(row):
    return dict(messages=row['messages'], tools=row.get('tools'), add_generation_prompt=row['add_generation_prompt'])


OURS = compiled(chat_template())

# ---- vectors

RENDER, PARSE = vectors('render'), vectors('parse')


@each(RENDER)
def test_render_vector(row):
    assert outcome(render, **of(row), bos=row['bos_token']) == row['expected']


@each(RENDER)
def test_template_vector(row):
    assert outcome(OURS.render, **of(row), bos_token=row['bos_token']) == row['expected']


@each(PARSE)
def test_parse_vector(row):
    want = [Call(c['name'], c['arguments']) for c in row['calls']]
    got = parse(row['text'])
    assert got == Reply(row['content'], want)
    assert all(same_value(a.arguments, b.arguments) for a, b in zip(got.calls, want))


# ---- generated prompts: sensible ones with odd corners, so that every branch of the template is reached

WORDS = ['', 'city', 'City', '城市', ' padded ', 'a{b}', '"q"', 'x,y', '🎉', 'line\nbreak', '<escape>', 'None', '_k', 'ß']
KEYS = ['a', 'A', 'b', 'city', '城市', '_x', 'items', 'description', 'type', 'properties', 'required', 'nullable', 'name', 'response', 'title',
        'additionalProperties', 'enum']
TYPES = ['string', 'STRING', 'integer', 'number', 'boolean', 'object', 'Object', 'array', 'null', '', None, ['string', 'null'], 5, True]
words = st.sampled_from(WORDS) | st.text(max_size=5)
numbers = st.integers() | st.floats() | st.sampled_from([1e16, 1e-5, 0.1, -0.0, 1e22])
scalars = st.none() | st.booleans() | numbers | words
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | words, inner, max_size=3), max_leaves=6)
mappings = st.dictionaries(st.sampled_from(KEYS) | words, values, max_size=3)
types = st.sampled_from(['string', 'object', 'array']) | st.sampled_from(TYPES)
required = st.lists(st.sampled_from(KEYS), max_size=3) | st.lists(scalars, max_size=2) | st.sampled_from([None, [], 'ab', {'a': 1}, True])


def keyed(needed=(), **fields):
    "Mappings with all of `needed` and some of the other `fields`."
    return st.fixed_dictionaries({k: v for k, v in fields.items() if k in needed}, optional={k: v for k, v in fields.items() if k not in needed})


def schemas(inner):
    props = st.dictionaries(st.sampled_from(KEYS), inner, max_size=3) | st.sampled_from([None, {}])
    items = keyed(type=types | st.lists(types, max_size=2), properties=props, required=required, description=words, enum=values, minimum=numbers)
    return keyed(['type'], type=types, description=words | st.none(), enum=st.lists(scalars, max_size=3) | values, properties=props, required=required,
                 items=inner | items, title=words, default=values, nullable=st.booleans(), additionalProperties=st.booleans() | inner, format=words) | values


schema = st.recursive(keyed(type=types, description=words, enum=st.lists(words, max_size=3)), schemas, max_leaves=5)
properties = st.dictionaries(st.sampled_from(KEYS), schema, max_size=4)
parameters = keyed(['type', 'properties'], type=st.just('object'), properties=properties, required=st.lists(st.sampled_from(KEYS), max_size=3))
odd_parameters = keyed(['properties'], properties=properties, required=required) | keyed(type=types, properties=properties | values, required=required, title=words) | st.sampled_from([None, {}]) | values
function = keyed(['name', 'parameters'], name=words, description=words, parameters=parameters)
odd_function = keyed(name=words | scalars, description=words | st.none() | values, parameters=odd_parameters)
odd_tool = keyed(type=st.just('function'), function=odd_function) | st.sampled_from([{}, {'name': 'flat'}, {'function': None}, {'function': 'f'}, {'function': {}}])
tools = st.none() | st.lists(keyed(['function'], function=function), max_size=3) | st.lists(odd_tool, max_size=2)

part = keyed(['type', 'text'], type=st.just('text'), text=words | scalars) | st.sampled_from([{'type': 'image'}, {'type': 'text'}, {'type': 'audio'}, {'text': 'x'}, 'x', None, 5])
parts = st.lists(part, min_size=1, max_size=3)
content = st.one_of(words, parts, st.none())
calls = st.lists(keyed(['function'], id=words, type=st.just('function'), function=keyed(['name'], name=words, arguments=mappings)), min_size=1, max_size=3)
odd_call = keyed(id=words, function=keyed(name=words | scalars, arguments=values) | values) | scalars
odd_calls = st.sampled_from([None, [], 5]) | st.lists(odd_call, max_size=2)
answer = keyed(['name', 'response'], name=words | scalars, response=mappings)
result = keyed(['role', 'name'], role=st.just('tool'), name=words | st.none(), tool_call_id=words, content=answer | mappings | words | st.lists(answer | mappings, max_size=3))
odd_result = keyed(['role'], role=st.just('tool'), name=scalars, content=values | st.lists(values, max_size=2) | keyed(name=words, response=values))
user = keyed(['role', 'content'], role=st.just('user'), content=content)
assistant = keyed(['role', 'content'], role=st.just('assistant'), content=content) | keyed(['role', 'tool_calls'], role=st.just('assistant'), content=content, tool_calls=calls)
odd = keyed(role=st.sampled_from(['user', 'assistant', 'model', 'tool', 'system', 'developer', '', None, 5]), content=content | values, tool_calls=calls | odd_calls, name=words)
system = keyed(['role'], role=st.sampled_from(['system', 'developer']), content=content | values)
usual = st.lists(user | assistant | result, min_size=1, max_size=5)
messages = usual | st.tuples(system, usual).map(lambda p: [p[0], *p[1]]) | st.lists(user | assistant | result | odd_result | odd, max_size=4)


MODELS = SHARED/'tokenizer'/'functiongemma'/'chat_template.jinja'
THEIRS = compiled(MODELS.read_text(encoding='utf-8')) if MODELS.exists() else None


@pytest.mark.skipif(THEIRS is None, reason=f'no template in {SHARED}: set FGNB_SHARED to the folder that holds it')
@given(messages, tools, st.booleans())
@few
def test_render_is_the_models_template(messages, tools, agp):
    assert outcome(render, messages, tools, agp) == outcome(THEIRS.render, messages=messages, tools=tools, add_generation_prompt=agp, bos_token='<bos>')


@given(messages, tools, st.booleans())
@few
def test_render_is_our_template(messages, tools, agp):
    assert outcome(render, messages, tools, agp) == outcome(OURS.render, messages=messages, tools=tools, add_generation_prompt=agp, bos_token='<bos>')


@given(messages, tools, st.booleans())
@settings(few, max_examples=max(EXAMPLES//4, 20))
def test_transformers_runs_both_templates(messages, tools, agp):
    utils = pytest.importorskip('transformers.utils.chat_template_utils')
    for source in [chat_template()] + ([MODELS.read_text(encoding='utf-8')] if THEIRS else []):
        got = outcome(utils.render_jinja_template, [messages], tools=tools, chat_template=source, add_generation_prompt=agp, bos_token='<bos>')
        assert outcome(render, messages, tools, agp) == (got and got[0][0])


def test_the_generated_prompts_reach_every_part():
    "The comparisons are worth something only if most cases render and each part of the format occurs among them."
    seen = dict.fromkeys(['declaration:', 'items:{', 'response:', 'call:', '<start_of_image>', ',enum:', ',properties:{', 'required:[', ',}', '{value:'], 0)
    count = {'all': 0, 'rendered': 0}

    @given(messages, tools)
    @settings(few, max_examples=2000, database=None, derandomize=True)
    def walk(messages, tools):
        text = outcome(render, messages, tools)
        count['all'] += 1; count['rendered'] += text is not None
        for part in seen: seen[part] += part in (text or '')
    walk()
    assert .5 < count['rendered']/count['all'] < .97 and min(seen.values()) >= 1, (count, seen)


# ---- calls there and back

plain = st.sampled_from(WORDS + ['{"a": [1, 2]}', "it's", '15', 'true', 'null', '你好，世界。', '👩‍💻', '<b>', '\r\n\t', '\\n', '[x]{y}:,']) | st.text(max_size=12)
plain = plain.filter(lambda s: '<escape>' not in s)
keys = st.sampled_from(['城市', 'A', 'a', '👩‍💻', '"k"', 'x y']) | st.text(max_size=8).map(lambda s: ''.join(c for c in s if c not in '{}[],:<').strip()).filter(bool)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | plain
nested = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20)
names = st.from_regex(r'[^\s{}<]+', fullmatch=True)
good_calls = st.builds(Call, names, st.dictionaries(keys, nested, max_size=5))


@given(good_calls)
@few
def test_a_call_survives(call):
    assert parse(render_call(call)) == Reply('', [call]) and survives(call)


@given(st.lists(good_calls, max_size=4), plain.filter(lambda s: '<' not in s))
@few
def test_several_calls_and_text(calls, content):
    assert parse(content + ''.join(map(render_call, calls)) + '<start_function_response>') == Reply(content, calls)


PIECES = [*CONTROL_TOKENS, 'call:', 'call:f{', 'a:1', '{', '}', '[', ']', ':', ',', 'a', '1', ' ', '\n', 'true', '好']
noise = st.lists(st.sampled_from(PIECES), max_size=30).map(''.join) | st.text()


@given(noise)
@few
def test_any_text_can_be_read(text):
    "Nothing raises, no text outside of calls is lost, and a call that was read reads the same when it is written again."
    reply = parse(text)
    if not reply.calls:
        for token in STOP_TOKENS: text = text.replace(token, '')
        assert reply.content == text
    if '<escape>' not in text: assert all(map(survives, reply.calls)) # an escaped key may hold anything


@given(noise, messages, tools)
@few
def test_spans_cover_the_text(noise, messages, tools):
    for text in (noise, outcome(render, messages, tools) or ''):
        found = spans(text)
        assert ''.join(text[s.start:s.end] for s in found) == text and all(a.end == b.start for a, b in zip(found, found[1:]))


def test_nesting_without_end():
    for bracket in ('[', '{a:'):
        deep = '<start_function_call>call:f{a:' + bracket*50_000
        assert parse(deep) == Reply(deep, [])


# ---- prompt and completion, text checks

@given(st.lists(st.tuples(plain, st.lists(good_calls, min_size=1, max_size=2) | plain), min_size=1, max_size=3))
@few
def test_completion_extends_the_prompt(turns):
    messages = []
    for said, answer in turns:
        messages.append({'role': 'user', 'content': said})
        if isinstance(answer, str): messages.append({'role': 'assistant', 'content': answer})
        else: messages.append({'role': 'assistant', 'tool_calls': [{'function': {'name': c.name, 'arguments': c.arguments}} for c in answer]})
    prompt, completion = prompt_completion(messages)
    assert prompt + completion == render(messages) and prompt.endswith('<start_of_turn>model\n')
    if isinstance(answer, str): assert completion == answer.strip() + '<end_of_turn>\n'
    else: assert parse(completion) == Reply('', answer)


@pytest.mark.parametrize('token', [*CONTROL_TOKENS, '<start_of_image>'])
def test_control_tokens_are_found_everywhere(token):
    text = f'a{token}b'
    tool = lambda **f: [{'type': 'function', 'function': {'name': 'f', 'description': 'd', 'parameters': {'type': 'object', 'properties': {}}} | f}]
    call = lambda **f: [{'role': 'assistant', 'tool_calls': [{'function': {'name': 'f', 'arguments': {}} | f}]}]
    cases = [([{'role': 'user', 'content': text}], None, 'messages[0].content'),
             ([{'role': 'user', 'content': [{'type': 'text', 'text': text}]}], None, 'messages[0].content[0].text'),
             ([], tool(name=text), 'tools[0].function.name'),
             ([], tool(description=text), 'tools[0].function.description'),
             ([], tool(parameters={'type': 'object', 'properties': {text: {}}}), f'tools[0].function.parameters.properties.{text}'),
             (call(name=text), None, 'messages[0].tool_calls[0].function.name'),
             (call(arguments={'x': [{'y': text}]}), None, 'messages[0].tool_calls[0].function.arguments.x[0].y'),
             (call(arguments={text: 1}), None, f'messages[0].tool_calls[0].function.arguments.{text}'),
             ([{'role': 'tool', 'name': 'f', 'content': {'v': text}}], None, 'messages[0].content.v')]
    for messages, tools, path in cases:
        assert [(f.column, f.code) for f in check_text(messages, tools)] == [(path, 'control-token')]
