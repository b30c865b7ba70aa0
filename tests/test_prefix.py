"""Shared beginnings under the real trainer: the same steps as without them, and the same over two processes."""
import os, random, subprocess, sys
from pathlib import Path

import pytest

torch, transformers = (pytest.importorskip(m) for m in ('torch', 'transformers'))
from fgnb.prefix import Shared
from fgnb.ranks import leave

root = Path(__file__).resolve().parent.parent
SMALL = dict(vocab_size=199, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, pad_token_id=0)


def gemma(): return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**SMALL, sliding_window=24, layer_types=['sliding_attention', 'full_attention'], query_pre_attn_scalar=8))
def llama(): return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))


def made(family):
    torch.manual_seed(0)
    model = family()
    for p in model.parameters(): torch.nn.init.normal_(p, std=.2)
    return model


def some_rows(n, seed=0):
    "Two toolsets, one of them in two variants longer than the window; labels on the last tokens."
    draw = random.Random(seed)
    ids = lambda k: [draw.randrange(1, 199) for _ in range(k)]
    head = ids(40)
    starts = [head + ids(40), head + ids(35), ids(50)]
    rows = [starts[i % 3] + ids(draw.randint(3, 9)) for i in range(n)]
    return [{'input_ids': r, 'labels': [-100]*(len(r)-3) + r[-3:], 'length': len(r)} for r in rows]


def trained(family, lora, mode, folder, **settings):
    "Losses of a short training, and the weights after it."
    import datasets, peft, trl
    from fgnb.trainer import sharing
    from transformers import PreTrainedTokenizerFast
    from tokenizers import Tokenizer, models
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({str(i): i for i in range(199)}, unk_token='3')), pad_token='0', eos_token='1')
    args = trl.SFTConfig(output_dir=str(folder), seed=0, data_seed=0, use_cpu=True, bf16=False, loss_type='chunked_nll', max_length=None, packing=False, max_steps=3, logging_steps=1,
                         dataset_kwargs={'skip_prepare_dataset': True}, remove_unused_columns=False, gradient_checkpointing=False, save_strategy='no', report_to=[], disable_tqdm=True,
                         dataloader_pin_memory=False, eval_strategy='steps', eval_steps=3, learning_rate=1e-2, optim='sgd', max_grad_norm=0, **settings)
    config = peft.LoraConfig(r=4, target_modules='all-linear', task_type='CAUSAL_LM') if lora else None
    trainer = sharing(trl.SFTTrainer, mode)(model=made(family), args=args, peft_config=config, processing_class=tokenizer, train_dataset=datasets.Dataset.from_list(some_rows(24)),
                                            eval_dataset=datasets.Dataset.from_list(some_rows(7, 1)))
    trainer.train()
    logs = trainer.state.log_history
    return [l[k] for l in logs for k in ('loss', 'eval_loss', 'mean_token_accuracy', 'num_tokens') if k in l], {n: p.detach().clone() for n, p in trainer.model.named_parameters()}


@pytest.mark.parametrize('family, lora, settings', [
    (gemma, False, {'gradient_accumulation_steps': 2}), (gemma, True, {}), (llama, True, {'gradient_accumulation_steps': 2})],
    ids=['gemma full, accumulated', 'gemma lora', 'llama lora, accumulated'])
def test_same_training(family, lora, settings, tmp_path):
    "Losses, validation, token counts and weights after some steps are those of TRL's own trainer."
    settings = settings | {'per_device_train_batch_size': 6, 'per_device_eval_batch_size': 7}
    (a, wa), (b, wb) = (trained(family, lora, mode, tmp_path/mode, **settings) for mode in ('on', 'off'))
    assert len(a) == len(b) > 8 and a == pytest.approx(b, rel=1e-5)
    start = dict(made(family).named_parameters())
    moved = [n for n in wa if 'lora_B' in n or n in start]
    assert max(((wa[n] - wb[n]).norm()/wb[n].norm().clamp(min=1e-9)).item() for n in moved) < 1e-5
    assert lora or any((wa[n] - start[n]).abs().max() > 1e-4 for n in start), 'nothing was trained'


def work(rank, meet, out):
    "One of two processes: the gradient of its rows, summed over both by DDP."
    torch.distributed.init_process_group('gloo', init_method=f'file://{meet}', rank=rank, world_size=2)
    model = made(gemma)
    shared = Shared(model, 'on')
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    wrapped(**shared(batch(some_rows(12)[rank::2])), num_items_in_batch=36).loss.backward()
    if rank == 0: torch.save({n: p.grad*2 for n, p in model.named_parameters()}, out)
    leave()


def batch(rows):
    T = max(r['length'] for r in rows)
    return {k: torch.tensor([r[k] + [fill]*(T-r['length']) for r in rows]) for k, fill in (('input_ids', 0), ('labels', -100))}


def test_two_processes(tmp_path):
    "The wrapper's forward pass is called the ordinary way, so its gradients are summed."
    code = 'import sys; sys.path.insert(0, "tests"); import test_prefix; test_prefix.work(int(sys.argv[1]), *sys.argv[2:])'
    env = os.environ | {'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    jobs = [subprocess.Popen([sys.executable, '-c', code, str(r), str(tmp_path/'meet'), str(tmp_path/'out.pt')], cwd=root, env=env) for r in (0, 1)]
    assert [j.wait(120) for j in jobs] == [0, 0]
    model = made(gemma)
    model(**batch(some_rows(12))).loss.backward()
    found = torch.load(tmp_path/'out.pt', weights_only=True)
    assert max(((found[n] - p.grad).norm()/p.grad.norm()).item() for n, p in model.named_parameters()) < 1e-5
