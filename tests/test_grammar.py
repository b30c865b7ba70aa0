"""The promise of the grammar: whatever the weights and the budget, a reply reads back and fits; and it costs nothing where the model was right."""
import json, random
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from conftest import SHARED
from fgnb.closing import Matchers, plain_ids
from fgnb.core import FaultError
from fgnb.data import read_examples
from fgnb.decode import Decoder
from fgnb.exam import fault_of, invented_tools, random_model, sit
from fgnb.format import prompt_completion
from fgnb.grammar import Matcher, gbnf, grammar
from fgnb.infer import Caller, generate_ids, load_model, predict, prompt_of
from fgnb.judge import judge
from fgnb.schema import load_tools
from fgnb.tokens import load_tokenizer

root = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


@lru_cache(maxsize=None)
def base(): return load_model('data/base')


def rows(name: str, n: int) -> list[dict]: return read_examples(root/f'data/{name}/commands.xlsx', root/f'data/{name}/tools.json')[:n]
def ids_of(text: str, tokenizer) -> list[int]: return tokenizer(text, add_special_tokens=False)['input_ids']


def toolsets() -> list[list[dict]]:
    "150: invented ones, and parts of the home demo's and, where they are at hand, of a public data set's."
    home = load_tools(root/'data/home/tools.json')
    public = SHARED/'datasets'/'shawhin_tool_use'/'data.jsonl.xz'
    if public.exists():
        import lzma
        with lzma.open(public, 'rt') as f: home += list({t['function']['name']: t for line in f for t in json.loads(line)['tools']}.values())
    return [invented_tools(i+1000) if i % 2 else random.Random(i).sample(home, random.Random(i).randint(1, 5)) for i in range(150)]


def test_random_weights_cannot_break_it():
    "150 sampled replies over as many toolsets; most of them are cut by their budget."
    tokenizer, sets = load_tokenizer('data/base'), toolsets()
    least = [len(ids_of(grammar(t, 'call').least, tokenizer)) for t in sets]
    exam = sit(random_model(tokenizer, 3), tokenizer, sets, [n+random.Random(n).choice([0, 3, 16]) for n in least], 'call', seed=1)
    assert exam.failures == [] and exam.replies == 150 and exam.calls >= 150 and exam.closed >= 30 and exam.toolsets >= 100


def test_gold_replies_are_in_the_language():
    "What a model is trained on can be said, with the tokens it is trained on."
    tokenizer = load_tokenizer('data/base')
    for name in ('home', 'penguin', 'simple'):
        start = Matchers(tokenizer)
        for e in rows(name, 200):
            matcher = start.start(e['tools'])
            assert matcher.accepts(ids_of(prompt_completion(e['messages'], e['tools'])[1].removesuffix('\n'), tokenizer)), e['id']


def test_public_tokenizer():
    "The real vocabulary: the same replies, forced tokens cut as the tokenizer cuts the whole."
    folder = SHARED/'tokenizer'/'functiongemma'
    if not folder.exists(): pytest.skip('the 262k tokenizer is not here: set FGNB_SHARED to the folder that holds tokenizer/functiongemma')
    tokenizer = load_tokenizer(folder)
    for e in rows('penguin', 12)+rows('home', 12):
        ids, at, matcher = ids_of(prompt_completion(e['messages'], e['tools'])[1].removesuffix('\n'), tokenizer), 0, Matcher(tokenizer, grammar(e['tools']))
        while at < len(ids): # forced tokens are those of the gold reply
            step = matcher.forced() or ids[at:at+1]
            assert step == ids[at:at+len(step)], e['id']
            matcher.take(step); at += len(step)
        assert matcher.done


def test_right_replies_stay():
    "Fast equals plain in batches of 1, 2 and 7; both equal unconstrained greedy wherever that was valid."
    model, tokenizer = base()
    few = rows('penguin', 10)
    prompts = [ids_of(prompt_of(e), tokenizer) for e in few]
    starts, decoder = Matchers(tokenizer), Decoder(model, tokenizer)
    begin = lambda a, b: [starts.start(e['tools']) for e in few[a:b]]
    plain = plain_ids(model, tokenizer, prompts, begin(0, 10), 40)
    for n in (1, 2, 7): assert [d.ids for i in range(0, 10, n) for d in decoder.decode(prompts[i:i+n], begin(i, i+n), 40)] == plain
    free = generate_ids(model, prompts, 40)
    valid = [starts.start(e['tools']).accepts(ids) and ids[-1] in (50, 106) for ids, e in zip(free, few)]
    assert sum(valid) >= 2 and not all(valid) and all(a == b for a, b, v in zip(plain, free, valid) if v)
    texts = predict(model, tokenizer, few, 40, 4, progress=False, grammar=True)
    assert texts == [tokenizer.decode(i) for i in plain] and all(judge(t, e).schema_ok for t, e in zip(texts, few))


def test_caller():
    "Confidence, other replies, and a budget that no call fits into."
    model, tokenizer = base()
    light = {'type': 'function', 'function': {'name': 'set_light', 'description': 'Switch a light', 'parameters': {'type': 'object', 'required': ['on', 'room'],
             'properties': {'room': {'type': 'string', 'description': 'The room'}, 'on': {'type': 'boolean', 'description': 'On or off'}}}}}
    caller = Caller(model, tokenizer, [light], max_new_tokens=32)
    answer = caller('打开客厅的灯', n=3)
    assert 0 < answer.confidence <= 1 and len(answer.others) == 2 and all(o.confidence <= answer.confidence for o in answer.others)
    assert '<script>' not in caller('<script>')._repr_html_()
    with pytest.raises(FaultError, match='too few new tokens'): Caller(model, tokenizer, [light], max_new_tokens=1)('hi')


def test_llama_cpp_keeps_the_promise_too(tmp_path):
    "The base model as a GGUF, sampled at temperature 1 under GBNF: what is not cut off reads back and fits."
    pytest.importorskip('xllamacpp')
    from fgnb.gguf_writer import write_gguf
    from fgnb.llamacpp import LlamaCpp
    sets, done = [], 0
    for seed in range(24):
        try: sets.append((invented_tools(seed), gbnf(invented_tools(seed), 'call')))
        except FaultError as e: assert all(f.code == 'grammar' for f in e.faults)
    assert len(sets) >= 16
    with LlamaCpp(write_gguf(root/'data'/'base', tmp_path/'base.gguf', 'f32'), n_ctx=512) as llama:
        for seed, (tools, rules) in enumerate(sets):
            request = {'prompt': '<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n', 'n_predict': 96, 'temperature': 1.0, 'top_k': 0, 'top_p': 1.0, 'seed': seed, 'grammar': rules, 'verbose': True}
            wrong = fault_of(llama.server.handle_completions(request)['__verbose']['content'], tools, 'call')
            assert wrong in ('', 'no stop token'), wrong
            done += not wrong
    assert done >= 8
