"""Functions in: every source that `load_tools` takes, good and malformed; a malformed one ends in located faults and never in another error."""
import json, os, shlex, sys, types, warnings, zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Callable, Literal, Optional, TypedDict, Union

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from conftest import SHARED
from fgnb.core import FaultError, project_root
from fgnb.documents import as_document, parse_document
from fgnb.mcp_tools import mcp_tools
from fgnb.openapi import openapi_tools
from fgnb.schema import check_arguments, load_tools, tool_names
from fgnb.signatures import function_tools, read_docstring
from fgnb.tool_docs import Parameter, parameter_schema
from fgnb.tool_text import text_tools
from made import sheet, text

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

SWAGGER = '''swagger: "2.0"
info: {title: 智能家居, version: "1"}
paths:
  /rooms/{room}/light:
    parameters:
    - {name: room, in: path, required: true, type: string, enum: [客厅, 卧室]}
    put:
      operationId: setLight
      summary: 调灯
      parameters:
      - {$ref: '#/parameters/Light'}
      - {name: X-Key, in: header, type: string, required: true}
    get:
      summary: Reads a light
      description: reads a light of a room
      parameters:
      - {name: fields, in: query, type: array, items: {type: string, enum: [power, level]}, collectionFormat: csv}
  /photos:
    post:
      operationId: add photo
      parameters:
      - {name: photo, in: formData, type: file, required: true}
parameters:
  Light: {name: body, in: body, required: true, schema: {$ref: '#/definitions/Light'}}
definitions:
  Switch: {type: object, required: [power], properties: {power: {type: string, enum: [on, off]}}}
  Light:
    allOf:
    - $ref: '#/definitions/Switch'
    - properties:
        level: {type: integer, minimum: 0, maximum: 100, exclusiveMaximum: true}
        room: {type: string}
        made: {type: string, format: date, readOnly: true}
'''
OPENAPI = '''openapi: 3.1.0
info: {title: t, version: "1"}
paths:
  /a/{id}:
    put:
      operationId: putA
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
      requestBody: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}
components:
  schemas:
    A: {type: object, properties: {name: {type: string}, note: {type: [string, "null"]}}}
'''
HEAD = ['Function', 'Function Description', 'Parameter', 'Type', 'Required', 'Enum', 'Parameter Description', 'Default']


def damaged(path: Path) -> Path:
    "The same workbook with one bit of its sheet changed, as a bad disk or transfer would."
    with zipfile.ZipFile(path) as z: parts = {n: z.read(n) for n in z.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as z:
        for n, data in parts.items(): z.writestr(n, data)
    content = bytearray(path.read_bytes())
    content[content.index(b'sheetData')+20] ^= 1
    return text(path, bytes(content))


def api(d: Path, old: str, new: str, source: str = OPENAPI) -> Path:
    "The document with one thing changed."
    assert old in source
    return text(d/'api.yaml', source.replace(old, new))


def untyped(a): "No type."
def anything(a: Any): "Any."
def callback(a: Callable): "A function."
def star(*a: int): "No names."
def anyname(**a: int): "Any name."
def position(a: int, /): "No name."
def keys(a: dict[int, str]): "Keys."
def unknown(a: 'Nowhere'): "A name that is not there."
def default(a: int = 'x'): "A default of another type."
def renamed(area: str): "Says.\n\nArgs:\n    aera: a room"
def blob(a: bytes): "Bytes."
def odd(a: Literal[b'x']): "Bytes again."
@dataclass
class Node: next: 'Node|None' = None
def endless(a: Node): "A record in itself."


bad = { # name -> (maker, what the message must hold)
    # no source
    'a number': (lambda d: 5, ['not a source of tools', 'mcp:COMMAND', '*.md']),
    'other suffix': (lambda d: text(d/'a.docx', 'x'), ['a.docx', 'not a kind of file', '*.xlsx']),
    'an address': (lambda d: 'https://example.org/openapi.json', ['not fetched', 'download']),
    'no file': (lambda d: d/'gone.yaml', ['gone.yaml', 'cannot be read']),
    'text in a list': (lambda d: ['functions.py'], ['tools[0]', 'not a tool']),
    'empty list': (lambda d: [], ['no tools here']),
    # JSON and JSON Schema
    'broken JSON': (lambda d: text(d/'a.json', '[\n{"name": }]'), ['a.json', 'row 2', 'not valid JSON']),
    'key twice': (lambda d: text(d/'a.json', '{"name": "a", "name": "b"}'), ["key 'name' occurs twice"]),
    'deep JSON': (lambda d: text(d/'a.json', '['*5000), ['nested too deeply']),
    'schema without a name': (lambda d: {'type': 'object', 'properties': {}}, ['a tool needs a name', 'title']),
    'name of two words': (lambda d: {'title': 'set light', 'type': 'object'}, ['set light', 'set_light']),
    'no object': (lambda d: {'f': {'type': 'string'}}, ['f.type', 'the parameters of a tool are an object']),
    'remote $ref': (lambda d: {'f': {'type': 'object', 'properties': {'a': {'$ref': 'http://x/y.json'}}}}, ['f.properties.a.$ref', 'http://x/y.json', 'starts with #']),
    'dangling $ref': (lambda d: {'f': {'type': 'object', 'properties': {'a': {'$ref': '#/$defs/R'}}}}, ['a reference to nothing', '#/$defs/R']),
    'circle': (lambda d: {'title': 'f', 'type': 'object', '$defs': {'T': {'properties': {'l': {'$ref': '#/$defs/T'}}}}, 'properties': {'t': {'$ref': '#/$defs/T'}}}, ['leads back into itself']),
    'contradiction': (lambda d: {'f': {'type': 'object', 'properties': {'a': {'allOf': [{'type': 'string'}, {'type': 'boolean'}]}}}}, ['f.properties.a', 'disagree about type']),
    'enum of another type': (lambda d: {'f': {'type': 'object', 'properties': {'a': {'type': 'string', 'enum': [1]}}}}, ['f.properties.a.enum', 'another type']),
    'bad pattern': (lambda d: {'f': {'type': 'object', 'properties': {'a': {'type': 'string', 'pattern': '['}}}}, ['pattern', 'regex']),
    'no JSON value': (lambda d: {'f': {'type': 'object', 'default': {1, 2}}}, ['f.default', 'not a value of JSON']),
    # Python
    **{f.__name__: (lambda d, f=f: f, [f'{f.__name__}.{part}'.rstrip('.'), words]) for f, part, words in (
        (untyped, 'a', 'no type'), (anything, 'a', 'says nothing'), (callback, 'a', 'JSON cannot write'), (star, 'a', 'without names'), (anyname, 'a', 'any name'), (position, 'a', 'by name'),
        (keys, 'a', 'keys that JSON cannot have'), (unknown, '', 'Nowhere'), (default, 'a', 'default does not fit'), (renamed, 'aera', 'area (nearest)'), (blob, 'a', 'bytes'),
        (odd, 'a', 'a choice that JSON cannot write'), (endless, 'a', 'contains itself'))},
    'a class': (lambda d: Node, ['not a function']),
    'lambda': (lambda d: lambda: 0, ['a tool needs a name', '<lambda>']),
    'builtin': (lambda d: [dict.get], ['without a signature']) if sys.version_info < (3, 11) else (lambda d: [print, untyped], ['print', 'untyped.a']),
    'syntax': (lambda d: text(d/'a.py', 'def f(:\n'), ['a.py', 'row 1', 'not Python']),
    'fails': (lambda d: text(d/'a.py', 'x = 1\n1/0\n'), ['a.py', 'row 2', 'ZeroDivisionError']),
    'exits': (lambda d: text(d/'a.py', 'raise SystemExit(3)'), ['a.py', 'row 1', 'SystemExit']),
    'nothing public': (lambda d: text(d/'a.py', 'from json import dumps\ndef _f(): pass\n'), ['a.py', 'no public function']),
    'fault in a file': (lambda d: text(d/'a.py', '\ndef f(a): "x"\n'), ['a.py', 'row 2', 'f.a', 'no type']),
    # MCP
    'MCP error': (lambda d: {'jsonrpc': '2.0', 'id': 1, 'error': {'code': -32601, 'message': 'Method not found'}}, ['error', 'Method not found']),
    'MCP page': (lambda d: {'tools': [{'name': 'a', 'inputSchema': {'type': 'object'}}], 'nextCursor': '2'}, ['nextCursor', 'next page']),
    'MCP without tools': (lambda d: {'jsonrpc': '2.0', 'result': {}}, ['result.tools', 'no list of tools']),
    'MCP misspelt': (lambda d: {'tools': [{'name': 'a', 'inputSchema': {'type': 'object'}}, {'name': 'b', 'inputShema': {}}]}, ['tools[1].inputShema', 'inputSchema (nearest)']),
    'MCP array': (lambda d: text(d/'a.json', '{"tools": [{"name": "a",\n"inputSchema": {"type": "array"}}]}'), ['a.json', 'row 2', 'tools[0].inputSchema.type', 'object']),
    'MCP no command': (lambda d: 'mcp: ', ['mcp', 'no command']),
    'MCP quotes': (lambda d: 'mcp:python "x', ['mcp', 'cannot be read']),
    'MCP not there': (lambda d: 'mcp:no-such-server-anywhere', ['mcp:no-such-server-anywhere', 'no such command']),
    'MCP dies': (lambda d: f'mcp:{shlex.quote(sys.executable)} -c "import sys; sys.exit(\'no key\')"', ['the server ended', 'no key']),
    # OpenAPI and Swagger
    'broken YAML': (lambda d: text(d/'a.yaml', 'a: [1\nb: 2\n'), ['a.yaml', 'row 2', 'not valid YAML']),
    'YAML tag': (lambda d: text(d/'a.yaml', 'a: !!python/object/apply:os.getcwd []\n'), ['a.yaml', 'row 1', 'a tag that is not read']),
    'YAML key twice': (lambda d: text(d/'a.yaml', 'a: 1\nb: 2\na: 3\n'), ['row 3', 'occurs twice']),
    'YAML bomb': (lambda d: text(d/'a.yaml', 'a: &a [x,x,x,x,x,x,x,x,x,x]\n' + ''.join(f'{b}: &{b} [{",".join(["*"+a]*10)}]\n' for a, b in zip('abcdefgh', 'bcdefghi'))), ['stand for too many values']),
    'YAML circle': (lambda d: text(d/'a.yaml', 'a: &a {b: *a}\n'), ['inside itself']),
    'not UTF-8': (lambda d: text(d/'a.yaml', '灯: 1'.encode('gb18030')), ['a.yaml', 'not UTF-8']),
    'version': (lambda d: api(d, '3.1.0', '4.0'), ['api.yaml', 'row 1', 'a version that is not read', '4.0']),
    'no paths': (lambda d: text(d/'api.yaml', 'openapi: 3.0.0\npaths: {}\n'), ['row 2', 'no paths']),
    'file $ref': (lambda d: api(d, "'#/components/schemas/A'", "'other.yaml#/A'"), ['row 8', 'requestBody', 'other.yaml#/A', 'starts with #']),
    'lost $ref': (lambda d: api(d, "'#/components/schemas/A'", "'#/components/schemas/B'"), ['row 8', 'a reference to nothing']),
    'method': (lambda d: api(d, '    put:', '    ptu:'), ['row 5', 'unknown key of a path', 'put (nearest)']),
    'undeclared': (lambda d: api(d, '/a/{id}', '/a/{key}'), ['row 5', 'key', 'not declared']),
    'place': (lambda d: api(d, 'in: path', 'in: pth'), ['row 7', 'parameters[0]', 'a name and a place']),
    'no media type': (lambda d: api(d, '{application/json: {schema: {$ref: \'#/components/schemas/A\'}}}', '{}'), ['row 8', 'no media type']),
    'API enum': (lambda d: api(d, '{name: {type: string}', '{name: {type: string, enum: [1, 2]}'), ['row 11', 'components.schemas.A.properties.name.enum']),
    'one name twice': (lambda d: api(d, 'operationId: add photo', 'operationId: setLight', SWAGGER), ['paths./photos.post', 'the same name', 'setLight']),
    'Swagger circle': (lambda d: api(d, "power: {type: string", "power: {$ref: '#/definitions/Light'}, p: {type: string", SWAGGER), ['row 26', 'leads back into itself']),
    # sheets
    'sheet: missing column': (lambda d: sheet(d/'a.xlsx', ['Function', 'Type'], ['f', 'int']), ['a.xlsx', "sheet 'Sheet'", 'row 1', 'missing column Parameter']),
    'sheet: empty': (lambda d: sheet(d/'a.xlsx'), ['a.xlsx', 'nothing in it']),
    'sheet: misspelt': (lambda d: sheet(d/'a.xlsx', ['Function', 'Parameter', 'Requird'], ['f', 'a', 'yes']), ['row 1', 'Requird', 'Required (nearest)']),
    'sheet: no function': (lambda d: sheet(d/'a.xlsx', HEAD, [None, None, 'a', 'int']), ['row 2', "'Function'", 'no function yet']),
    'sheet: type': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a', 'integr']), ['row 2', "'Type'", 'integer (nearest)']),
    'sheet: no type': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a']), ['row 2', "'Type'", 'no type']),
    'sheet: required': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a', 'int', 'perhaps']), ['row 2', "'Required'", 'neither yes nor no']),
    'sheet: enum': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a', 'int', '', '1, two']), ['row 2', "'Enum'", 'two']),
    'sheet: default': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a', 'string', '', 'on, off', '', 'auto']), ['row 2', "'Default'", 'auto']),
    'sheet: twice': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a', 'int'], [None, None, 'a', 'int']), ['row 3', "'Parameter'", 'has the parameter already']),
    'sheet: apart': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a', 'int'], ['g', 'G', 'a', 'int'], ['f', 'F', 'b', 'int']), ['row 4', 'further up already']),
    'sheet: merged': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a', 'int'], [None, None, 'b', None], merge='D2:D3'), ['row 2', "'Type'", 'merged']),
    'sheet: number': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', 7, 'int']), ['row 2', "'Parameter'", 'not text']),
    'sheet: formula': (lambda d: sheet(d/'a.xlsx', HEAD, ['f', 'F', '=A2', 'int']), ['row 2', 'formula']),
    'sheet: no workbook': (lambda d: text(d/'a.xlsx', 'PK no'), ['a.xlsx', 'not a workbook']),
    'sheet: damaged': (lambda d: damaged(sheet(d/'a.xlsx', HEAD, ['f', 'F', 'a', 'int'])), ['a.xlsx', 'workbook']),
    'csv: zero byte': (lambda d: text(d/'a.csv', 'Function,Parameter\nf\0,a\n'), ['a.csv', 'row 2', 'not a text file']),
    'csv: quotes': (lambda d: text(d/'a.csv', 'Function,Parameter\nf,"a"b\n'), ['a.csv', 'row 2', 'quotes']),
    'csv: encoding': (lambda d: text(d/'a.csv', 'Function,Parameter\ncafé,a\n'.encode('latin-1')), ['a.csv', 'encoding']),
    'csv: too wide': (lambda d: text(d/'a.csv', 'Function,Parameter,Type\nf,a,int,more\n'), ['a.csv', 'row 2', 'no header', 'more']),
    # Markdown
    'md: prose heading': (lambda d: text(d/'a.md', '# Home\n## Turn on the light\n'), ['a.md', 'row 2', 'Turn_on_the_light']),
    'md: nothing': (lambda d: text(d/'a.md', 'Just text.\n'), ['a.md', 'no functions']),
    'md: no type': (lambda d: text(d/'a.md', '## f\nParameters:\n- a: the thing\n'), ['row 3', 'does not describe a parameter']),
    'md: table': (lambda d: text(d/'a.md', '## f\n\n| song | loud |\n|---|---|\n| x | 1 |\n'), ['row 3', 'does not list parameters']),
    'md: type in table': (lambda d: text(d/'a.md', '## f\n\n| 参数 | 类型 |\n|---|---|\n| x | 整树 |\n'), ['row 5', 'f.kind', '整树']),
    'md: no actions': (lambda d: text(d/'a.md', '# p\n`animate(actions: [enum])` moves.\n'), ['row 2', 'no actions']),
    'md: action twice': (lambda d: text(d/'a.md', '# animate(actions: [enum])\n- JUMP\n- RUN\n- JUMP\n'), ['row 4', 'stands twice', 'JUMP']),
    'md: names': (lambda d: text(d/'a.md', '---\ntitle: x\n---\n# penguin\n- JUMP: up\n- RUN\n'), ['row 5', 'penguin', 'JUMP, RUN', 'penguin(actions: [enum])']),
    'md: two signatures': (lambda d: text(d/'a.md', '# animate(actions: [enum])\n- JUMP\n# play(song: enum)\n- A\n'), ['row 3', 'second function']),
}


@pytest.mark.parametrize('name', bad)
def test_malformed(name, tmp_path):
    make, wanted = bad[name]
    with pytest.raises(FaultError) as failed: load_tools(make(tmp_path))
    said = str(failed.value)
    assert [w for w in wanted if w not in said] == [], said
    assert all(f.where for f in failed.value.faults) or name in ('a number', 'empty list'), said


def test_enough_malformed(): assert len(bad) >= 40


def test_faults_come_all_at_once(tmp_path):
    wrong = OPENAPI.replace('in: path', 'in: pth').replace('schemas/A', 'schemas/B').replace('    put:', '    ptu: {}\n    put:')
    with pytest.raises(FaultError) as failed: load_tools(text(tmp_path/'api.yaml', wrong))
    assert [f.row for f in failed.value.faults] == [5, 8, 9, 6]
    with pytest.raises(FaultError) as failed: load_tools([untyped, star, {'name': 'a b'}, {'title': 'x y', 'type': 'object'}])
    assert [f.column for f in failed.value.faults] == ['untyped.a', 'star.a', 'tools[3].title', 'tools[2].function.name']


# --- good ones -------------------------------------------------------------------------------------------------------

def test_swagger(tmp_path):
    with pytest.warns(UserWarning) as told: tools = load_tools(text(tmp_path/'api.yaml', SWAGGER))
    assert tool_names(tools) == ['setLight', 'get_rooms_by_room_light', 'add_photo']
    said = str(told[0].message)
    assert all(w in said for w in ('body_room', 'X-Key', "'add photo' is called add_photo"))
    light, read = tools[0]['function']['parameters'], tools[1]['function']
    assert list(light['properties']) == ['room', 'power', 'level', 'body_room'] and light['required'] == ['room', 'power'] and light['properties']['power']['enum'] == ['on', 'off']
    assert check_arguments(tools[0], {'room': '客厅', 'power': 'on', 'level': 99}) == [] != check_arguments(tools[0], {'room': '客厅', 'power': 'on', 'level': 100})
    assert read['description'] == 'reads a light of a room' and read['parameters']['properties']['fields'] == {'type': 'array', 'items': {'type': 'string', 'enum': ['power', 'level']}}
    assert tool_names(openapi_tools(tmp_path/'api.yaml', only=['GET /rooms/{room}/light'])) == ['get_rooms_by_room_light']
    with pytest.raises(FaultError, match='setLight \\(nearest\\)'): openapi_tools(tmp_path/'api.yaml', only=['setLigth'])


def test_openapi_as_json_and_as_values(tmp_path):
    data = parse_document(OPENAPI).data
    tools = load_tools(text(tmp_path/'api.json', json.dumps(data)))
    assert tools == load_tools(data) == load_tools(text(tmp_path/'api.yaml', OPENAPI))
    assert tools[0]['function']['parameters']['properties'] == {'id': {'type': 'integer'}, 'name': {'type': 'string'}, 'note': {'type': 'string', 'nullable': True}}


@pytest.mark.parametrize('name, count', [('petstore.yaml', 19), ('uspto.yaml', 3)])
def test_real_documents(name, count):
    path = SHARED/'datasets'/'openapi_docs'/name
    if not path.exists(): pytest.skip('no shared data sets beside the project')
    tools = load_tools(path)
    assert len(tools) == count and '$ref' not in json.dumps(tools)
    if name == 'petstore.yaml':
        pet = next(t for t in tools if t['function']['name'] == 'addPet')
        assert check_arguments(pet, {'name': 'Rex', 'photoUrls': [], 'status': 'sold', 'category': {'name': 'dogs'}}) == []
        assert check_arguments(pet, {'name': 'Rex', 'photoUrls': [], 'status': 'lost'})[0][0] == 'status'


SERVER = '''
from typing import Literal
from pydantic import BaseModel
from mcp.server.mcpserver import MCPServer
server = MCPServer('home')
class Scene(BaseModel):
    name: str
    level: int|None = None
@server.tool()
def set_light(area: Literal['客厅', '卧室'], scene: Scene|None = None) -> str:
    "Sets a light."
    return 'ok'
@server.tool()
def good_night() -> str:
    "Everything off."
    return 'ok'
server.run()
'''


def test_live_mcp_server(tmp_path):
    pytest.importorskip('mcp')
    path = text(tmp_path/'server.py', SERVER)
    tools = load_tools(f'mcp:{shlex.quote(sys.executable)} {shlex.quote(str(path))}')
    assert tool_names(tools) == ['set_light', 'good_night']
    assert tools[0]['function']['parameters'] == {'type': 'object', 'required': ['area'], 'properties': {'area': {'type': 'string', 'enum': ['客厅', '卧室']}, 'scene': {
        'type': 'object', 'required': ['name'], 'nullable': True, 'properties': {'name': {'type': 'string'}, 'level': {'type': 'integer', 'nullable': True}}}}}
    assert check_arguments(tools[0], {'area': '客厅', 'scene': None}) == []


def test_silent_mcp_server():
    pytest.importorskip('mcp')
    with pytest.raises(FaultError, match='no answer within 1 s'): mcp_tools([sys.executable, '-c', 'import sys; sys.stdin.read()'], timeout=1)


class Mood(Enum): happy, sad = 'happy', 'sad'
class Place(TypedDict, total=False): floor: int


def test_function(tmp_path):
    def play(song: str, mood: Mood = Mood.happy, rooms: list[Literal['hall', 'attic']]|None = None, at: Optional[Place] = None, loud: Annotated[Union[int, float], 'in percent'] = 50):
        """Plays a song.

        More about it.

        Parameters
        ----------
        song : str
            the title
        rooms
            where
        """
    tool = load_tools(play)[0]
    assert tool['function'] == {'name': 'play', 'description': 'Plays a song.\nMore about it.', 'parameters': {'type': 'object', 'required': ['song'], 'properties': {
        'song': {'type': 'string', 'description': 'the title'}, 'mood': {'type': 'string', 'enum': ['happy', 'sad'], 'default': 'happy'},
        'rooms': {'type': 'array', 'items': {'type': 'string', 'enum': ['hall', 'attic']}, 'nullable': True, 'description': 'where'},
        'at': {'type': 'object', 'properties': {'floor': {'type': 'integer'}}, 'nullable': True}, 'loud': {'type': 'number', 'description': 'in percent', 'default': 50}}}}
    assert check_arguments(tool, {'song': 'x', 'rooms': None, 'mood': 'sad', 'loud': 1.5}) == []


def test_module_and_file(tmp_path):
    code = 'import helper\nfrom json import dumps\ndef ping() -> str: "Ping."\ndef wave(times: int = helper.TIMES): "Waves."\ndef _no(x): pass\n'
    text(tmp_path/'helper.py', 'TIMES = 2\n')
    with pytest.warns(UserWarning, match='is run to read its functions'): tools = load_tools(text(tmp_path/'acts.py', code))
    assert tool_names(tools) == ['ping', 'wave'] and str(tmp_path) not in sys.path and 'functions_of_acts' not in sys.modules
    module = types.ModuleType('acts')
    sys.modules.pop('helper')
    exec(code.replace('helper.TIMES', '2').replace('import helper\n', ''), vars(module))
    assert load_tools(module) == tools


def test_sheet_and_page_agree(tmp_path):
    rows = [['set_light', '调灯', 'area', '字符串', '是', '客厅、卧室', '房间'], [None, None, 'level', '整数', '否'], ['good_night', '全关']]
    tools = load_tools(sheet(tmp_path/'a.xlsx', ['函数', '函数说明', '参数', '类型', '必填', '可选值', '参数说明'], *rows, merge='A2:A3'))
    page = '# 家\n## set_light\n调灯\n\n| 参数 | 类型 | 必填 | 可选值 | 说明 |\n|---|---|---|---|---|\n| area | 字符串 | 是 | 客厅、卧室 | 房间 |\n| level | 整数 | 否 | | |\n## good_night\n全关\n'
    english = 'Function;Function Description;Parameter;Type;Required;Enum;Description\nset_light;调灯;area;string;yes;客厅/卧室;房间\n;;level;int;no;;\ngood_night;全关;;;;;\n'
    assert tools == text_tools(page) == load_tools(text(tmp_path/'a.csv', english.encode('gb18030')))
    assert tools[0]['function']['parameters']['required'] == ['area'] and check_arguments(tools[0], {'area': '厨房'})


def test_penguin_page(tmp_path):
    actions = json.loads((project_root(Path(__file__).parent)/'data/penguin/tools.json').read_text(encoding='utf-8'))[0]['function']['parameters']['properties']['actions']['items']['enum']
    pages = ['# animate_avatar(actions: [enum])\n让企鹅做动作。\n' + ''.join(f'## {a}\n动作 {i}\n' for i, a in enumerate(actions)),
             'One function `animate_avatar(actions: [enum])`: moves the penguin.\n\n| Action | Meaning |\n|---|---|\n' + ''.join(f'| {a} | x |\n' for a in actions),
             '# Penguin\n`animate_avatar(actions: [enum])`\n\nActions: ' + ', '.join(actions) + '\n']
    for page in pages:
        tool, = load_tools(text(tmp_path/'actions_doc.md', page))
        assert tool['function']['name'] == 'animate_avatar' and tool['function']['parameters']['properties']['actions']['items'] == {'type': 'string', 'enum': actions}
        assert tool['function']['parameters']['required'] == ['actions']


def test_json_shapes():
    schema = {'type': 'object', 'properties': {'a': {'type': 'integer'}}}
    want = load_tools([{'name': 'f', 'description': '', 'parameters': schema}])
    for source in ({'title': 'f', **schema}, {'f': schema}, {'tools': want}, want[0], {'name': 'f', **schema}, {'tools': [{'name': 'f', 'description': '', 'inputSchema': schema}]},
                   [{'name': 'f', 'description': '', 'input_schema': schema}], [{'title': 'f', **schema}], {'id': 1, 'jsonrpc': '2.0', 'result': {'tools': [{'name': 'f', 'inputSchema': schema}]}}):
        assert load_tools(source) == want, source


# --- fuzz: never anything but a FaultError -----------------------------------------------------------------------------

few = settings(max_examples=int(os.environ.get('FGNB_FUZZ', 25)), deadline=None, suppress_health_check=list(HealthCheck), derandomize='FGNB_FUZZ' not in os.environ) # a long run draws anew
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=4)
words = st.sampled_from(['type', 'properties', 'required', 'enum', 'items', '$ref', 'allOf', 'anyOf', 'oneOf', '$defs', 'name', 'description', 'parameters', 'function', 'tools', 'inputSchema', 'title', 'nullable',
                         'const', 'default', 'minimum', 'exclusiveMinimum', 'additionalProperties', 'in', 'schema', 'content', 'requestBody', 'operationId', 'paths', '/a/{b}', 'get', 'post', 'result', 'jsonrpc',
                         'pattern', 'prefixItems', 'readOnly', 'tags', 'summary', 'application/json', 'error', 'nextCursor'])
leaves = scalars | st.sampled_from(['object', 'string', 'integer', 'array', '#', '#/$defs/a', '#/paths', 'x.json', 'path', 'query', 'body', '[', 'null', '3.0.0', '2.0'])
values = st.recursive(leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(words | st.text(max_size=3), v, max_size=4), max_leaves=20)


def only_faults(read, *args) -> None:
    try: read(*args)
    except FaultError as e: assert e.faults


@few
@given(values)
def test_fuzz_values(value):
    if not callable(value): only_faults(load_tools, value if isinstance(value, (dict, list)) else [value])


@few
@given(st.fixed_dictionaries({'openapi': st.just('3.1.0'), 'paths': st.dictionaries(st.sampled_from(['/a', '/a/{b}', 'x']), st.dictionaries(st.sampled_from(['get', 'put', 'parameters', '$ref']), st.dictionaries(words, values, max_size=5), max_size=3), max_size=3),
                              'components': values}))
def test_fuzz_openapi(value): only_faults(load_tools, value)


@few
@given(st.lists(st.fixed_dictionaries({'name': leaves, 'inputSchema': values}), max_size=3))
def test_fuzz_mcp(value): only_faults(load_tools, {'tools': value, 'jsonrpc': '2.0'})


@few
@given(st.text(st.sampled_from('ab:{}[]&*!<>-?|"\'#\n ,012.%@~=x'), max_size=60))
def test_fuzz_yaml_and_json(source):
    only_faults(lambda s: load_tools(parse_document(s, 'a.yaml').data or []), source)
    only_faults(lambda s: load_tools(parse_document(s, 'a.json').data or []), source)


@few
@given(st.lists(st.sampled_from(['# ', '## ', '- ', '  - ', '| a | b |\n|---|---|\n', '| 参数 | 类型 |\n|---|---|\n| x | 整数 |\n', 'f(a: [enum])', '`f(a: [enum], b?: int)`', 'JUMP', 'a (string, required): x', 'Parameters:', '参数：无', '\n', '\n\n',
                                 '```\nx\n```\n', '> ', '1. ', 'Actions: A, B', '枚举：a/b', '(', '**']) | st.text(max_size=5), max_size=14).map(''.join))
def test_fuzz_markdown(source): only_faults(text_tools, source, 'a.md')


@settings(few, max_examples=20)
@given(st.lists(st.lists(st.sampled_from(['', 'f', 'g', 'a', 'b', 'int', '枚举', 'int[]', 'yes', 'x, y', '1/2', '5']) | st.text(max_size=4), min_size=1, max_size=9), max_size=6), st.sampled_from([',', ';', '\t']))
def test_fuzz_sheet(tmp_path, rows, delimiter):
    lines = [delimiter.join(r) for r in [['Function', 'Description', 'Parameter', 'Type', 'Required', 'Enum', 'Default'], *rows]]
    only_faults(load_tools, text(tmp_path/'a.csv', '\n'.join(lines).encode('utf-8', 'surrogatepass')))


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The bytes of a good file of functions of every kind that is no code."
    folder = tmp_path_factory.mktemp('functions')
    sheet(folder/'a.xlsx', HEAD, ['f', 'Does.', 'a', 'int', 'yes', '1, 2', 'A number.', '1'], [None, None, 'b', 'string[]'], merge='A2:A3')
    text(folder/'a.csv', ','.join(HEAD)+'\nf,Does.,a,enum,yes,"on, off"\n'); text(folder/'a.md', '# f\nDoes.\n\n- a (int, required): A number.\n')
    text(folder/'a.yaml', OPENAPI); text(folder/'a.json', json.dumps(load_tools(folder/'a.xlsx')))
    for name in ('a.xlsx', 'a.csv', 'a.md', 'a.yaml', 'a.json'): assert load_tools(folder/name)
    return lambda name: (folder/name).read_bytes()


@few
@given(name=st.sampled_from(['a.xlsx', 'a.csv', 'a.md', 'a.yaml', 'a.json']), edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5), cut=st.none() | st.floats(0, 1))
def test_fuzz_bytes(name, edits, cut, whole, tmp_path):
    data = bytearray(whole(name))
    for at, byte in edits: data[int(at*len(data))] = byte
    only_faults(load_tools, text(tmp_path/name, bytes(data[:int(cut*len(data))] if cut is not None else data)))


@few
@given(st.builds(Parameter, *[st.text(max_size=6)]*6))
def test_fuzz_parameter(p): json.dumps(parameter_schema(p, lambda *a: None)[0])


kinds = st.recursive(st.sampled_from([str, int, float, bool, None, Any, bytes, Mood, Place, Node, list, dict, tuple, Callable, object, 5, 'int', 'nope', '1/0', '(']),
                     lambda k: st.builds(lambda a: list[a], k) | st.builds(lambda a, b: dict[a, b], k, k) | st.builds(lambda a, b: tuple[a, b], k, k) | st.builds(lambda a: Annotated[a, 'x'] if isinstance(a, type) else a, k), max_leaves=5)


@few
@given(st.dictionaries(st.sampled_from('abc'), kinds, max_size=3), st.text(st.sampled_from('abc:()\n -@参数'), max_size=40), st.sampled_from(['', '\n\nArgs:\n    ', '\n\nParameters\n----------\n', '\n:param ']))
def test_fuzz_function(hints, doc, head):
    def f(a, b=1, *, c=None): pass
    f.__annotations__, f.__doc__ = hints, 'Does.'+head+doc
    only_faults(function_tools, f)
    assert isinstance(read_docstring(f.__doc__).params, dict)


def test_field_without_a_name():
    "A reST field that names nothing is passed over."
    assert read_docstring('Does.\n:param  : x\n:type  : int\n:param int a: y').params == {'a': 'y'}


def test_existing_reader_stays(tmp_path):
    "A tools.json is given back as it was written."
    home = project_root(Path(__file__).parent)/'data/home/tools.json'
    assert load_tools(home) == load_tools(str(home)) == json.loads(home.read_text(encoding='utf-8'))
    assert as_document({'a': 1}).data == {'a': 1}
