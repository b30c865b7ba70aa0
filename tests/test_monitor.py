"""A training that is watched: nothing changes by the watching, the best epoch is kept through a restart, a broken row is named, trackers get what they were promised."""
import json, socket

import pytest

pytest.importorskip('trl')
import torch, transformers
from safetensors.torch import load_file

from fgnb.config import load_config
from fgnb.core import FaultError, read_jsonl, seed_everything
from fgnb.format import prompt_completion
from fgnb.selection import select_epochs
from fgnb.testing import lamps, tiny_gemma
from fgnb.tokens import load_tokenizer
from fgnb.train import encode_rows, finetune
from fgnb.trainer import build_trainer

ROWS = lamps(18)
TRAIN, HELD = ROWS[:12], ROWS[12:]


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1) # a model this small only waits for more
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp('base')
    tiny_gemma(folder)
    return folder


def config(base, *more: str):
    return load_config(None, [f'model.path={base}', 'training.learning_rate=0.01', 'training.epochs=4', 'training.batch_size=6', 'logging.steps=1',
                              'lora.enabled=false', 'infer.max_new_tokens=24', 'training.exact_rows=4', *more])


def scripted(monkeypatch, right: list[int]) -> list[dict]:
    "Answers of which so many are right, epoch after epoch; receives the trained weights of each epoch."
    seen, left = [], list(right)
    def answers(model, tokenizer, examples, config):
        seen.append({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
        n = left.pop(0)
        return [prompt_completion(e['messages'], e['tools'])[1] if i < n else '' for i, e in enumerate(examples)]
    monkeypatch.setattr('fgnb.selection.answers', answers)
    return seen


def same(a: dict, b: dict) -> bool: return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize('more', [['lora.enabled=false', 'infer.grammar=true'], ['lora.enabled=true', 'lora.dropout=0.1', 'infer.grammar=false']], ids=['full', 'lora'])
def test_answers_change_nothing(base, tmp_path, more):
    "The weights and the history are those of a training without answers, also where dropout draws random numbers."
    short = ['training.epochs=2', 'training.keep=last', *more]
    seen = finetune(config(base, *short), TRAIN, HELD, tmp_path/'seen', quiet=True)
    alone = finetune(config(base, *short, 'training.exact_rows=0'), TRAIN, HELD, tmp_path/'alone', quiet=True)
    assert (seen.model_dir/'model.safetensors').read_bytes() == (alone.model_dir/'model.safetensors').read_bytes()
    exact = [r for r in seen.history if 'eval_exact_match' in r]
    assert [r['eval_exact_n'] for r in exact] == [4, 4] and [r for r in seen.history if r not in exact] == alone.history
    samples = read_jsonl(tmp_path/'seen'/'samples.jsonl')
    assert len(samples) == 6 and [s['id'] for s in samples[:3]] == [s['id'] for s in samples[3:]] and {s['epoch'] for s in samples} == {1, 2}
    assert seen.summary()['kept'] == 'last' and alone.summary()['kept_why'] == 'training.exact_rows is 0'
    assert any('examples_per_s' in r for r in read_jsonl(tmp_path/'seen'/'speed.jsonl'))


@pytest.mark.parametrize('lora', ['true', 'false'])
def test_best_is_kept_beyond_the_checkpoints(base, tmp_path, monkeypatch, lora):
    "The second of four epochs is the best; its checkpoint is long gone when the training ends."
    seen = scripted(monkeypatch, [1, 3, 2, 2])
    result = finetune(config(base, f'lora.enabled={lora}', 'training.save_limit=1'), TRAIN, HELD, tmp_path/'run', quiet=True)
    said = result.summary()
    assert (said['kept'], said['kept_epoch'], said['kept_exact_match'], said['stopped_early']) == ('best', 2, 0.75, False)
    assert [p.name for p in (tmp_path/'run'/'checkpoints').iterdir()] == ['checkpoint-8']
    if lora == 'true':
        kept = {n.replace('.weight', '.default.weight'): t for n, t in load_file(result.adapter_dir/'adapter_model.safetensors').items()}
    else: kept = {n: t for n, t in load_file(result.model_dir/'model.safetensors').items() if n in seen[1]}
    assert same(kept, seen[1]) and not same(kept, seen[3])


def test_early_stop(base, tmp_path, monkeypatch):
    "Two epochs without a better exact match, and no more; a lower loss decides between equals but puts nothing off."
    scripted(monkeypatch, [2, 2, 2, 4])
    result = finetune(config(base, 'training.early_stop=2'), TRAIN, HELD, tmp_path/'run', quiet=True)
    losses = [r['eval_loss'] for r in result.history if 'eval_loss' in r]
    assert result.summary()['stopped_early'] and len(losses) == 3 and result.steps == 6
    assert result.summary()['kept_epoch'] == 1 + losses.index(min(losses))


def test_last_is_told_and_a_vain_early_stop_refused(base, tmp_path):
    result = finetune(config(base, 'training.max_steps=1'), TRAIN, [], tmp_path/'run', quiet=True)
    assert (result.summary()['kept'], result.summary()['kept_why']) == ('last', 'no validation rows') and not (tmp_path/'run'/'best').exists()
    with pytest.raises(FaultError, match='nothing to stop early by'): finetune(config(base, 'training.early_stop=1'), TRAIN, [], tmp_path/'vain', quiet=True)


@pytest.mark.parametrize('restore', [False, True])
def test_restart(base, tmp_path, monkeypatch, restore):
    "After a kill behind the checkpoint of epoch 2 the choice goes on where it was: best of epoch 1, one epoch waited."
    c = config(base, 'training.early_stop=2')
    tokenizer, run = load_tokenizer(base), tmp_path/'run'
    rows, held = (encode_rows(r, tokenizer, c)[0] for r in (TRAIN, HELD))
    def begun():
        seed_everything(c.seed)
        trainer, _ = build_trainer(c, rows, held, tokenizer, run, history := [], quiet=True)
        trainer.args.restore_callback_states_from_checkpoint = restore
        return trainer, select_epochs(trainer, tokenizer, c, HELD, run, quiet=True), history
    class Killed(Exception): pass
    class Kill(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 6: raise Killed
    seen = scripted(monkeypatch, [3, 1])
    trainer, *_ = begun()
    trainer.add_callback(Kill())
    with pytest.raises(Killed): trainer.train()
    with (run/'samples.jsonl').open('a') as f: f.write('{"step": 5, "torn')
    scripted(monkeypatch, [2])
    trainer, selection, history = begun()
    trainer.train(resume_from_checkpoint=str(run/'checkpoints'/'checkpoint-4'))
    assert selection.choice.best['epoch'] == 1 and selection.choice.waited == 2 and selection.choice.stopped
    assert [r['eval_exact_match'] for r in history if 'eval_exact_match' in r] == [0.75, 0.25, 0.5] and read_jsonl(run/'history.jsonl') == history
    assert [r['step'] for r in read_jsonl(run/'samples.jsonl')] == [2]*3+[4]*3+[6]*3
    assert selection.settle(trainer.model)['kept_epoch'] == 1 and same({n: p.detach() for n, p in trainer.model.named_parameters()}, seen[0])


def test_a_broken_row_is_named(tmp_path):
    "Through the whole fine-tune: one token's embedding is NaN, the rows that hold it are told with their place."
    tokenizer, rows = load_tokenizer('data/base'), [r | {'source': {'file': 'lamps.xlsx', 'sheet': 'A', 'row': i}} for i, r in enumerate(TRAIN, 2)]
    model = tiny_gemma(tmp_path/'base', tie_word_embeddings=False)
    encoded = encode_rows(rows, tokenizer, load_config())[0]
    rare = next(t for t in encoded[0].input_ids if sum(t in e.input_ids for e in encoded) < 6)
    with torch.no_grad(): model.model.embed_tokens.weight[rare] = float('nan')
    model.save_pretrained(tmp_path/'base')
    with pytest.raises(FaultError) as failed: finetune(config(tmp_path/'base', 'training.batch_size=12'), rows, [], tmp_path/'run', quiet=True)
    named = {(f.file, f.sheet, f.row, f.column) for f in failed.value.faults if f.code == 'nan-row'}
    assert named == {('lamps.xlsx', 'A', i, e.id) for i, e in enumerate(encoded, 2) if rare in e.input_ids} and not (tmp_path/'run'/'model').exists()


def test_tensorboard(base, tmp_path):
    "Loss, exact match, speed, memory and the samples, read back from the event file in the run's folder."
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    finetune(config(base, 'training.epochs=2', 'logging.trackers=[tensorboard]'), TRAIN, HELD, tmp_path/'run', quiet=True)
    events = EventAccumulator(str(tmp_path/'run'/'tensorboard')).Reload()
    wanted = {'train/loss', 'train/grad_norm', 'train/learning_rate', 'train/examples_per_s', 'train/memory_mb', 'eval/loss', 'eval/exact_match', 'eval/exact_n'}
    assert wanted <= set(events.Tags()['scalars']) and [e.step for e in events.Scalars('eval/exact_match')] == [2, 4]
    assert b'| command | expected | got | verdict |' in events.Tensors('eval/samples/text_summary')[0].tensor_proto.string_val[0]
