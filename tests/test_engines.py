"""The same training with and without gradient checkpointing and shared beginnings, engine and memory in the result."""
import json, os, subprocess, sys
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('trl')
from fgnb.config import load_config
from fgnb.core import FaultError
from fgnb.infer import load_model
from fgnb.testing import lamps, tiny_gemma
from fgnb.train import finetune


def trained(folder, base, *more):
    "A short training of a random model."
    settings = [f'model.path={base}', 'infer.max_new_tokens=24', 'training.learning_rate=0.01', 'training.max_steps=4', 'training.batch_size=6', 'logging.steps=1', 'lora.r=4', *more]
    return finetune(load_config(None, settings), lamps(18), lamps(24)[18:], folder, quiet=True)


def losses(result): return [r['loss'] for r in result.history if 'loss' in r]


@pytest.mark.parametrize('lora', ['true', 'false'])
def test_checkpointing_changes_no_number(tmp_path, lora):
    "Off and on: equal losses and equal weights, with every row by itself and with shared beginnings; one way and the other equal to rounding."
    tiny_gemma(tmp_path/'base')
    alone = 'training.share_prefix=off'
    of = {name: trained(tmp_path/name, tmp_path/'base', f'lora.enabled={lora}', *more) for name, more in
          {'on': ['training.gradient_checkpointing=on', alone], 'off': ['training.gradient_checkpointing=off', alone],
           'shared': [], 'both': ['training.gradient_checkpointing=on', 'training.share_prefix=on']}.items()}
    for on, off in (('on', 'off'), ('both', 'shared')):
        assert losses(of[on]) == losses(of[off]) and len(losses(of[on])) == 4
        weights, others = (load_model(of[n].model_dir)[0].state_dict() for n in (on, off))
        assert all(torch.equal(v, others[k]) for k, v in weights.items())
    assert max(abs(a-b) for a, b in zip(losses(of['on']), losses(of['both']))) < 1e-4
    assert 'checkpointing on (asked for)' in of['on'].memory and 'off (auto: a step of 6 rows' in of['shared'].memory
    assert of['shared'].engine.startswith('trl (auto') and of['shared'].summary()['engine'] == of['shared'].engine


def test_sharing_that_was_demanded_is_not_dropped(tmp_path):
    tiny_gemma(tmp_path/'base')
    with pytest.raises(FaultError, match='dropout'):
        trained(tmp_path/'run', tmp_path/'base', 'lora.dropout=0.1', 'training.share_prefix=on')


def test_what_the_engines_cannot_do_is_refused_before_anything_loads(tmp_path):
    with pytest.raises(FaultError, match='need a CUDA GPU') as caught:
        trained(tmp_path/'run', 'no/such-model', 'training.engine=trl', 'model.load_in_4bit=true')
    assert 'model.load_in_4bit=false' in str(caught.value) and not (tmp_path/'run').exists()


def answers(engine: str) -> list[str]:
    "Raw replies of the base model, from a process of its own, as Unsloth has to be imported first."
    code = """import json, sys
from fgnb.infer import Caller
caller = Caller.load('data/base', tools='data/penguin/tools.json', engine=sys.argv[1])
print(json.dumps([a.text for a in caller.batch(['打开客厅的灯', '跳一下，然后转个圈', 'hello there', 'walk three steps', '往左转'])]))"""
    root = Path(__file__).resolve().parent.parent
    made = subprocess.run([sys.executable, '-c', code, engine], cwd=root, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])})
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(made.stdout.splitlines()[-1])


@pytest.mark.skipif(find_spec('unsloth') is None, reason='Unsloth is not installed: make unsloth')
def test_unsloth_answers_alike():
    assert answers('unsloth') == answers('transformers')
