"Trainings that are killed, preempted, damaged or out of memory, in real processes: they end with the bytes of the one that nothing happened to."
import json, multiprocessing, os, random, resource, signal, sys, time
from pathlib import Path

import pytest

from conftest import FORK
from fgnb.testing import lamps, tiny_gemma

kinds = {
    'all weights': ['lora.enabled=false', 'training.gradient_accumulation=2', 'training.batch_size=3', 'training.save_steps=2', 'training.epochs=4'],
    'lora, dropout': ['lora.r=4', 'lora.dropout=0.1', 'training.batch_size=4', 'training.save_steps=3', 'training.epochs=3'],
}


def life(base: str, folder: str, options: list[str], megabytes: int = 0) -> None:
    "One life of a training, in its own process; what it says goes to `folder`/said."
    import torch
    from fgnb.config import load_config
    from fgnb.train import finetune
    torch.set_num_threads(1)
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(f'{folder}/said', 'a') as said: os.dup2(said.fileno(), 1)
    if megabytes:
        size = int(Path('/proc/self/statm').read_text().split()[0])*os.sysconf('SC_PAGE_SIZE')
        resource.setrlimit(resource.RLIMIT_AS, (size+megabytes*1_000_000,)*2)
    config = load_config(None, [f'model.path={base}', 'infer.max_new_tokens=8', 'training.learning_rate=0.01', 'logging.steps=3', *options])
    result = finetune(config, lamps(24)[:20], lamps(24)[20:], folder, quiet=True, resume=True)
    (Path(folder)/'result.json').write_text(json.dumps(result.summary()))


def start(*args) -> multiprocessing.Process:
    process = FORK.Process(target=life, args=args)
    process.start()
    return process


def whole_life(*args) -> None:
    process = start(*args)
    process.join(120)
    assert process.exitcode == 0


def same(one: Path, other: Path) -> None:
    for f in ('history.jsonl', 'model/model.safetensors'): assert (one/f).read_bytes() == (other/f).read_bytes(), f


@pytest.fixture(scope='module')
def base(tmp_path_factory) -> str:
    "A random Gemma of two layers."
    folder = tmp_path_factory.mktemp('base')
    tiny_gemma(folder)
    return str(folder)


@pytest.fixture(scope='module')
def straight(base, tmp_path_factory) -> dict:
    "Each kind of training, undisturbed: its folder and the seconds it took."
    made = {}
    for kind, options in kinds.items():
        folder = tmp_path_factory.mktemp('straight')
        if not made: whole_life(base, str(folder/'warm'), options) # starts the server
        t0 = time.time()
        whole_life(base, str(folder), options)
        made[kind] = folder, time.time()-t0
    return made


def hurt(folder: Path, draw: random.Random) -> bool:
    "Damage the newest checkpoint, if there is an older one: one byte of one file, or a file that is gone."
    there = sorted((folder/'checkpoints').glob('checkpoint-*'), key=lambda p: int(p.name.split('-')[1]))
    if len(there) < 2: return False
    file = draw.choice([f for f in sorted(there[-1].iterdir()) if f.name != 'SHA256SUMS' and f.stat().st_size])
    if draw.random() < 0.3: file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
    return True


def written(folder: Path) -> list:
    "What lies half-written: name and time, so that leftovers are told from new ones."
    found = []
    for p in (folder/'checkpoints'/'.partial').glob('checkpoint-*'):
        try: found.append((p.name, p.stat().st_ino, p.stat().st_ctime_ns))
        except FileNotFoundError: pass # it has just got its name
    return found


def test_twenty_kills(straight, base, tmp_path, told):
    "kill -9 at random moments, every third one while a checkpoint is being written; now and then the last checkpoint is damaged as well."
    draw, kills, in_write, damaged, skipped = random.Random(20), 0, 0, 0, 0
    for n in range(40):
        kind = list(kinds)[n % 2]
        folder, took = tmp_path/f'{n}', straight[kind][1]
        while kills < min(20, 10*(n+1)): # ten a training, so that each kind is killed
            left = set(written(folder)) # by the life before
            process, moment = start(base, str(folder), kinds[kind]), time.time()+draw.uniform(0, took)
            while process.is_alive() and time.time() < moment+(kills % 3 == 0)*60:
                if kills % 3 == 0 and set(written(folder))-left: break
                time.sleep(0.001)
            process.kill()
            process.join()
            if process.exitcode == 0: break
            assert process.exitcode == -signal.SIGKILL
            kills += 1
            in_write += bool(set(written(folder))-left)
            damaged += draw.random() < 0.4 and hurt(folder, draw)
        whole_life(base, str(folder), kinds[kind])
        same(folder, straight[kind][0])
        skipped += (folder/'said').read_text().count('is skipped: ')
        if kills == 20: break
    told(f'{kills} kills in {n+1} trainings, {in_write} in a checkpoint being written, {damaged} last checkpoints damaged')
    assert kills == 20 and in_write >= 4 and damaged >= 1 and skipped >= 1


def test_sigterm_saves_and_ends_with_75(straight, base, tmp_path):
    "Asked to stop in the middle of an epoch: a checkpoint of that step, exit code 75, and the same bytes after going on."
    kind = 'lora, dropout'
    process = start(base, str(tmp_path), kinds[kind])
    while not (tmp_path/'checkpoints'/'checkpoint-3').is_dir(): time.sleep(0.001)
    process.terminate()
    process.join(60)
    steps = [int(p.name.split('-')[1]) for p in (tmp_path/'checkpoints').glob('checkpoint-*')]
    assert process.exitcode == 75 and not (tmp_path/'model').exists() and f'checkpoint-{max(steps)} is saved; go on with' in (tmp_path/'said').read_text()
    whole_life(base, str(tmp_path), kinds[kind])
    same(tmp_path, straight[kind][0])


@pytest.mark.skipif(sys.platform != 'linux', reason='RLIMIT_AS')
def test_memory_that_really_runs_out(base, tmp_path, told):
    "An address space too small for sixteen rows at a time: fewer at a time, as many a step, to the end."
    tiny_gemma(tmp_path/'wide', intermediate_size=4096)
    options = ['lora.enabled=false', 'training.batch_size=16', 'training.max_steps=2', 'training.share_prefix=off']
    whole_life(str(tmp_path/'wide'), str(tmp_path/'plenty'), options)
    plenty = json.loads((tmp_path/'plenty'/'result.json').read_text())
    for megabytes in (520, 460, 420, 380, 340, 300, 260, 220): # how much sixteen rows need differs from machine to machine; what lies scattered after a failure can leave too little even for one row
        folder = tmp_path/str(megabytes)
        process = start(str(tmp_path/'wide'), str(folder), options, megabytes)
        process.join(120)
        if process.exitcode: assert 'out of memory: 1 row at a time' in (folder/'said').read_text() # nothing but memory may end it
        tight = json.loads((folder/'result.json').read_text()) if process.exitcode == 0 else {'batch_size': 16}
        if tight['batch_size'] < 16: break
    assert plenty['batch_size'] == 16 and tight['batch_size'] < 16 and tight['batch_size']*tight['gradient_accumulation'] == 16 and tight['steps'] == 2
    assert abs(tight['loss']-plenty['loss']) < 1e-4 and 'so that a step keeps its 16 rows' in (folder/'said').read_text()
    told(f'of {megabytes} MB: {tight["batch_size"]} rows at a time')
