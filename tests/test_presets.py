"""Every shipped preset for a real model starts here: on random weights of the model's shape, through the same call, with its own settings."""
import json
from pathlib import Path

import pytest

from fgnb.config import load_config
from fgnb.convert import convert
from fgnb.core import FaultError, project_root
from fgnb.engine import choose_precision
from fgnb.launch import finetune
from fgnb.mix import load_splits
from fgnb.testing import expect_fail, tiny_gemma

SHAPE = dict(hidden_size=640, num_hidden_layers=2, layer_types=['sliding_attention', 'full_attention'], num_attention_heads=4, num_key_value_heads=1, head_dim=256, intermediate_size=2048, sliding_window=512)
PRESETS = { # name -> what its source says: learning rate, epochs, scheduler, all weights
    'penguin-functiongemma': (5e-5, 8, 'cosine', False), 'google-tutorial': (5e-5, 8, 'constant', True), 'mobile-actions': (1e-5, 2, 'cosine', True),
    'gemma3-1b': (2e-5, 2, 'cosine', False), 'rtx4090': (5e-5, 8, 'cosine', False), 't4': (5e-5, 8, 'cosine', False), 'laptop-cpu': (2e-4, 2, 'cosine', False)}


@pytest.fixture(scope='module')
def base(tmp_path_factory) -> Path:
    "Two layers of Gemma 3 270M, one of each kind, with random weights and the vocabulary of data/base; all of them start in nbs/benchmarks/presets.ipynb."
    folder = tmp_path_factory.mktemp('true')/'base'
    tiny_gemma(folder, **SHAPE)
    return folder


@pytest.mark.parametrize('name', PRESETS)
def test_preset_says_what_its_source_says(name):
    c = load_config(name)
    assert (c.training.learning_rate, c.training.epochs, c.training.scheduler, not c.lora.enabled) == PRESETS[name]
    head = (project_root()/'nbs'/'experiments'/f'{name}.yaml').read_text(encoding='utf-8')
    assert head.startswith('#') and 'HF_ENDPOINT' in head


def mobile_actions(folder: Path) -> list[str]:
    "Two rows as Google publishes them, made into rows and tools as the preset says; the overrides that point at them."
    tool = {'function': {'name': 'turn_on_flashlight', 'description': 'Turns the flashlight on.', 'parameters': {'type': 'OBJECT', 'properties': {}}}}
    row = lambda text: {'metadata': 'train', 'tools': [tool], 'messages': [{'role': 'developer', 'content': 'Current date and time given in YYYY-MM-DDTHH:MM:SS format: 2025-06-06T14:00:00'},
        {'role': 'user', 'content': text}, {'role': 'assistant', 'tool_calls': [{'function': {'name': 'turn_on_flashlight', 'arguments': {}}}]}]}
    source, rows = folder/'dataset.jsonl', folder/'rows.jsonl'
    source.write_text(''.join(json.dumps(row(t))+'\n' for t in ('Turn the flashlight on', 'Light, please')), encoding='utf-8')
    convert([source], rows)
    return [f'data.train=[{rows}]', f'data.tools={folder/"rows.tools.json"}', 'data.validation=0', 'data.test_share=0']


@pytest.mark.parametrize('name', [n for n in PRESETS if n != 'gemma3-1b'])
def test_preset_starts(name, base, tmp_path):
    own = mobile_actions(tmp_path) if name == 'mobile-actions' else []
    config = load_config(name, [f'model.path={base}', 'training.max_steps=1', 'training.batch_size=1', 'training.gradient_accumulation=1', 'data.max_rows=1', *own])
    result = finetune(config, load_splits(config, quiet=True)['train'], [], tmp_path/'run', quiet=True)
    assert result.steps == 1 and 5 < result.history[0]['loss'] < 20 and (result.model_dir/'model.safetensors').is_file()
    assert result.precision.startswith('bfloat16' if name == 'rtx4090' else 'float32')
    assert (result.adapter_dir is None) == PRESETS[name][3]


def test_t4_computes_in_float32():
    "Turing has no bfloat16; float16, which it has, is refused with the reason."
    turing = (7, 5)
    assert choose_precision(load_config('t4').model.dtype, 'gemma3_text', False, turing).weights == 'float32'
    assert choose_precision('auto', 'gemma3_text', False, turing).reason == 'this GPU has no bfloat16'
    with expect_fail(FaultError, 'overflows in float16'): choose_precision('float16', 'gemma3_text', False, turing)
