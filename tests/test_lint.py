"""Every finding of the lint is real, none is missed, and rewriting ends where nothing is left to rewrite."""
import copy, re

from hypothesis import HealthCheck, given, settings, strategies as st

from fgnb.format import render_declaration
from fgnb.lint import RESERVED, RULES, lint, lint_table
from fgnb.mend import new_arguments, original_arguments, rewrite
from fgnb.schema import check_arguments

quick = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

words = st.sampled_from(['Lights', '灯光', 'a room.', 'ends: here'])
names = st.sampled_from(['area', 'Zone', 'n', 'type', 'description', 'required', 'a:b', '温度', 'items'])
scalars = st.sampled_from(['string', 'integer', 'number', 'boolean', 'STRING'])
numbers = st.sampled_from([0, 1, 5, 2.5])
values = st.sampled_from(['a', 'b', 1, None, True])


@st.composite
def schemas(draw, depth=2):
    "Schemas of the kind that pydantic, OpenAPI readers and people write, and some that nobody should."
    kinds = ['scalar', 'scalar', 'list-type', 'union', 'ref', 'none'] + (['object', 'array', 'bare'] if depth else [])
    kind, s = draw(st.sampled_from(kinds)), {}
    if draw(st.booleans()): s['description'] = draw(words)
    if kind == 'scalar': s['type'] = draw(scalars)
    if kind == 'list-type': s['type'] = draw(st.sampled_from([['string', 'null'], ['integer', 'number'], ['string', 'integer'], ['boolean']]))
    if kind == 'union':
        key = draw(st.sampled_from(['anyOf', 'oneOf', 'allOf']))
        s[key] = draw(st.lists(st.sampled_from([{'type': 'string'}, {'type': 'null'}, {'type': 'integer', 'minimum': 2}, {'const': 'x'}, {'enum': ['y', 'z']}, {'$ref': '#/$defs/A'}]),
                               min_size=1, max_size=3))
    if kind == 'ref': s['$ref'] = draw(st.sampled_from(['#/$defs/A', '#/$defs/B', '#/$defs/Loop', '#/$defs/None']))
    if kind == 'object':
        s |= {'type': 'object', 'properties': draw(st.dictionaries(names, schemas(depth=depth-1), max_size=3))}
        s['required'] = draw(st.lists(st.sampled_from(list(s['properties']) or ['x']), max_size=2, unique=True))
    if kind == 'bare': s['type'] = 'object'
    if kind == 'array':
        s['type'] = 'array'
        if draw(st.booleans()): s['items'] = draw(schemas(depth=depth-1))
    more = {'default': values, 'nullable': st.booleans(), 'minimum': numbers, 'exclusiveMaximum': numbers, 'maxLength': st.just(3), 'pattern': st.just('^a'), 'title': words,
            'format': st.sampled_from(['date-time', 'int64']), 'enum': st.lists(values, min_size=1, max_size=3, unique_by=repr), 'const': values, 'x-vendor': st.just(1),
            'additionalProperties': st.sampled_from([True, False, {'type': 'integer'}, {'type': 'object', 'properties': {}}])}
    for key in draw(st.lists(st.sampled_from(list(more)), max_size=3, unique=True)): s[key] = draw(more[key])
    return s


@st.composite
def tools(draw):
    "A tool, its parameters broken now and then."
    parameters = {'type': 'object', 'properties': draw(st.dictionaries(names, schemas(), max_size=4))}
    parameters['$defs'] = {'A': {'type': 'string', 'enum': ['p', 'q']}, 'B': {'type': 'object', 'properties': {'a': {'$ref': '#/$defs/A'}}}, 'Loop': {'items': {'$ref': '#/$defs/Loop'}}}
    parameters['required'] = draw(st.lists(st.sampled_from(list(parameters['properties']) or ['x']), max_size=2, unique=True))
    for key, value in {'description': words, 'title': words, 'additionalProperties': st.booleans(), 'minProperties': st.just(1)}.items():
        if draw(st.integers(0, 4)) == 0: parameters[key] = draw(value)
    if draw(st.integers(0, 6)) == 0: del parameters['type']
    function = {'name': 'set_light', 'description': draw(st.sampled_from(['Set a light', '', '调节灯光'])), 'parameters': parameters}
    if draw(st.integers(0, 4)) == 0: function |= {'strict': True, 'return': {'type': 'string'}}
    return {'type': 'function', 'function': function}


def get(tool, at):
    for key in at: tool = tool[key]
    return tool


def without(tool, at):
    "A copy of `tool` without what stands at `at`."
    new = copy.deepcopy(tool)
    del get(new, at[:-1])[at[-1]]
    return new


def places(value, at=()):
    "Where every key of every mapping stands."
    for k, v in value.items() if isinstance(value, dict) else []:
        yield at + (k,)
        yield from places(v, at + (k,))


def says_nothing(key, value):
    "What can be left out of a schema without changing what it says."
    return value in (None, '', [], {}) if key != 'const' else False


@quick
@given(tools())
def test_every_finding_is_real(tool):
    "What a finding calls lost makes no difference to the declaration; what it calls mangled stands there mangled."
    declared = render_declaration(tool)
    same = lambda at: render_declaration(without(tool, at)) == declared
    for f in lint([tool]):
        there, key = get(tool, f.at), f.at[-1]
        assert f.severity == RULES[f.rule][0] and f.rendered in declared, f
        if f.rule in ('constraint', 'keyword', 'enum', 'nullable'): assert same(f.at) and not says_nothing(key, there), f
        elif f.rule == 'reserved-name': # another argument of this name is declared alike: not at all
            other = copy.deepcopy(tool)
            get(other, f.at[:-1])[key] = {'type': 'boolean', 'description': 'another'}
            assert key in RESERVED and render_declaration(other) == declared
        elif f.rule in ('union', 'ref') and 'items' not in f.path and '[]' not in f.path: assert same(f.at) and f.rendered.endswith('type:<escape><escape>}'), f
        elif f.rule == 'missing-type' and '[]' not in f.path: assert f.rendered.endswith('type:<escape><escape>}'), f
        elif f.rule == 'type-list' and '[]' not in f.path: assert f"type:<escape>{[t.upper() for t in there]}<escape>" in f.rendered, f
        elif f.rule == 'fake-parameter': assert f'{key}:{{description:<escape>' in f.rendered, f
        elif f.rule == 'enum-member': assert re.search(r'enum:\[[^\]]*(?<!<escape>)(?:[\[,])?(1|None|true)[,\]]', f.rendered), f
        elif f.rule == 'no-type': assert declared.count('{') == declared.count('}') + 1
        elif f.rule == 'unreadable-name': assert 'a:b:{' in declared
        elif f.rule == 'no-description': assert 'description:<escape><escape>' in f.rendered
        elif f.rule == 'free-object': assert 'properties:{}' in f.rendered or 'OBJECT' in f.rendered
        elif f.rule == 'raw-items': assert '<escape>:' in f.rendered, f
        elif f.rule == 'order': assert re.search(r'order of their names: (.*)', f.reason)[1].split(', ') != [k for k in get(tool, f.at) if k not in RESERVED]


@quick
@given(tools())
def test_nothing_lost_is_missed(tool):
    "Whatever can be taken out of a tool without changing its declaration is in a finding, or in the description, or says nothing."
    declared, at = render_declaration(tool), {f.at for f in lint([tool])}
    for place in places(tool['function']['parameters'], ('function', 'parameters')):
        value, key = get(tool, place), place[-1]
        if render_declaration(without(tool, place)) != declared or says_nothing(key, value) or value is False and key != 'additionalProperties': continue
        if any(place[:n] in at for n in range(3, len(place)+1)): continue
        parent = get(tool, place[:-1])
        free = key == 'additionalProperties' and value is True and not parent.get('properties')
        assert free or (key == 'default' and value is None), place


@quick
@given(st.lists(tools(), min_size=1, max_size=2))
def test_rewriting_is_complete_and_idempotent(given_tools):
    before = copy.deepcopy(given_tools)
    new, changes, renamed = rewrite(given_tools)
    assert given_tools == before
    assert [f for f in lint(new) if f.rewrite] == []
    assert rewrite(new) == (new, [], {})
    assert bool(changes) == any(f.rewrite for f in lint(given_tools))
    for t in new: assert not any(f.rule in ('no-type', 'fake-parameter', 'reserved-name', 'unreadable-name') for f in lint([t]))


@quick
@given(tools(), st.data())
def test_rewritten_tools_accept_nothing_new(tool, data):
    "A call that fits the new tool fits the old one under the old names, arguments left out for null aside."
    (new,), _, renamed = rewrite([tool])
    pool = st.sampled_from(['a', 'p', 'x', 'y', 3, 2.5, True, None, {}, {'n': 1}, [], [1], ['q'], '2026-01-01T00:00:00Z'])
    arguments = {k: data.draw(pool) for k in new['function']['parameters']['properties']}
    old = copy.deepcopy(tool)
    old['function']['parameters'].pop('required', None)
    try: fits, fitted = check_arguments(new, arguments) == [], check_arguments(old, original_arguments(arguments, renamed.get('set_light', {}))) == []
    except Exception as e: # a reference that leads nowhere
        assert 'None' in str(e); return
    assert fitted or not fits
    back = original_arguments(arguments, renamed.get('set_light', {}))
    assert new_arguments(back, renamed.get('set_light', {})) == arguments
