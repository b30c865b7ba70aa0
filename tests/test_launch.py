"""Two processes train as one does with the same effective batch: adapters and all weights, sharded, and from the workflow notebook."""
import os, signal, threading, time

import pytest

from fgnb.config import load_config
from fgnb.core import read_json
from fgnb.folder import Preempted, create_run
from fgnb.launch import finetune
from fgnb.runs import run_notebook
from fgnb.testing import lamps, tiny_gemma

ROWS = lamps(30)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp('launch')/'base'
    tiny_gemma(folder)
    return folder


def config(base, **values):
    small = {'model.path': base, 'infer.max_new_tokens': 8, 'training.learning_rate': 0.002, 'training.epochs': 4, 'training.gradient_accumulation': 2, 'logging.steps': 1, 'training.share_prefix': "'off'"}
    return load_config(None, [f'{k.replace("__", ".")}={v}' for k, v in (small | values).items()])


def weights(result):
    from safetensors.torch import load_file
    return load_file(result.model_dir/'model.safetensors')


def largest_gap(one, other) -> float:
    "The largest relative difference of a weight matrix."
    assert one.keys() == other.keys()
    return max(((one[k]-other[k]).norm()/one[k].norm()).item() for k in one)


def curve(result): return [next(r[k] for k in ('loss', 'eval_loss') if k in r) for r in result.history if 'eval_exact_match' not in r]


def two_processes(base, strategy='ddp'):
    "Two processes and a checkpoint after each step; with `ddp` adapters and shared beginnings, with `fsdp` all weights."
    return config(base, launch__processes=2, launch__strategy=strategy, lora__enabled=strategy == 'ddp', training__batch_size=3, training__save_steps=1, training__share_prefix="'on'" if strategy == 'ddp' else "'off'")


@pytest.fixture(scope='module')
def straight(base, tmp_path_factory):
    "Two processes that nothing happened to."
    return finetune(two_processes(base), ROWS[:19], ROWS[23:], tmp_path_factory.mktemp('straight'), quiet=True)


@pytest.mark.parametrize('strategy,rows', [('ddp', 19), ('fsdp', 23)])
def test_two_processes_train_as_one(base, tmp_path, straight, strategy, rows):
    "Same weights, same losses; the last step of an epoch lacks rows, in the first case so many that one process has none."
    lora = strategy == 'ddp'
    two = straight if lora else finetune(two_processes(base, strategy), ROWS[:rows], ROWS[23:], tmp_path/'two', quiet=True)
    one = finetune(config(base, lora__enabled=lora, training__batch_size=6), ROWS[:rows], ROWS[23:], tmp_path/'one', quiet=True)
    assert two.steps == one.steps == 8 and curve(two)[-1] < curve(two)[0]
    assert curve(two) == pytest.approx(curve(one), rel=1e-6)
    assert largest_gap(weights(one), weights(two)) < (1e-6 if strategy == 'ddp' else 1e-5) # fsdp rounds the norm of the gradients otherwise; in float64 both gaps are under 1e-14
    assert (two.adapter_dir is not None) == lora
    import transformers
    transformers.AutoModelForCausalLM.from_pretrained(two.model_dir)


def test_workflow_notebook_launches(base, tmp_path):
    "03_quick_finetune trains in two processes when the run's configuration says so, and prints who trains."
    (tmp_path/'settings.ini').write_text('[DEFAULT]\nlib_name = fgnb\n', encoding='utf-8')
    from fgnb.core import project_root
    for name in ('data', 'nbs'): (tmp_path/name).symlink_to(project_root()/name)
    run = create_run(load_config('smoke', [f'model.path={base}', 'launch.processes=2', 'training.max_steps=2', 'training.batch_size=2']), tmp_path)
    done = run_notebook('03_quick_finetune', run, {'overrides': []}, tmp_path)
    printed = ''.join(o.get('text', '') if isinstance(o.get('text', ''), str) else ''.join(o['text']) for c in read_json(done)['cells'] for o in c.get('outputs', []))
    assert '2 processes train on' in printed and 'training: 2/2 steps' in printed
    assert run.metrics['train']['steps'] == 2 and (run/'model'/'model.safetensors').is_file() and not (run/'launch').exists()


def test_stopped_together_and_resumed(base, tmp_path, straight):
    "A signal to the process that started them: both save behind the same step, and end later as if nothing had happened."
    c, night = two_processes(base), tmp_path/'night'
    def stop():
        while not (night/'checkpoints'/'checkpoint-2').is_dir(): time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Preempted) as stopped: finetune(c, ROWS[:19], ROWS[23:], night, quiet=True)
    assert stopped.value.code == 75 and not (night/'model').exists()
    resumed = finetune(c, ROWS[:19], ROWS[23:], night, quiet=True, resume=True)
    assert resumed.history == straight.history and resumed.steps == 8
    assert (resumed.model_dir/'model.safetensors').read_bytes() == (straight.model_dir/'model.safetensors').read_bytes()


TIGHT = """
import os
if os.environ.get('RANK') == '1': # the second of the processes that train
    import torch, fgnb.monitor
    plain = fgnb.monitor.metered
    def metered(trainer):
        class Tight(plain(trainer)):
            def training_step(self, model, inputs, *args, **kwargs):
                if self.state.global_step >= 2 and len(inputs['input_ids']) > 1: raise torch.OutOfMemoryError('CUDA out of memory.')
                return super().training_step(model, inputs, *args, **kwargs)
        return Tight
    fgnb.monitor.metered = metered
"""


def test_memory_of_one_process_runs_out(base, tmp_path, straight, monkeypatch, capfd):
    "Behind the second step the second process can hold one row only: both begin again from there, one row at a time, and end as if nothing had happened."
    (tmp_path/'sitecustomize.py').write_text(TIGHT)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    tight = finetune(two_processes(base), ROWS[:19], ROWS[23:], tmp_path/'tight', quiet=True)
    said = capfd.readouterr().out
    assert 'out of memory: 1 row at a time in each process from here on, 6 times a step, so that a step keeps its 12 rows; going on from checkpoint-2' in said
    assert (tight.steps, tight.batch_size, tight.gradient_accumulation) == (8, 1, 6)
    assert curve(tight) == pytest.approx(curve(straight), rel=1e-5)
    assert largest_gap(weights(straight), weights(tight)) < 1e-5
