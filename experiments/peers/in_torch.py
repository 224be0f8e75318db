"""Workers of the peers, PyTorch and Hugging Face transformers. Runs in a separate environment (see requirements.txt).

PEERS_PYTHON experiments/peers/in_torch.py gpt_small [eager|compiled]
"""

import itertools
import os
import sys

import torch
import torch.nn.functional as F
from serve import serve
from torch import nn
from works import ON_GPU, WORKS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, seq, width = x.shape
        query, key, value = (
            part.view(batch, seq, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm_attention(x)).split(width, dim=2)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, seq, width))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, depth: int, width: int, heads: int, context: int, vocabulary: int):
        super().__init__()
        self.embed, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens):
        x = self.embed(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embed.weight)


class LSTM(nn.Module):
    def __init__(self, width: int, vocabulary: int, classes: int):
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(vocabulary, width), nn.LSTM(width, width), nn.Linear(width, classes)

    def forward(self, tokens):
        return self.head(self.lstm(self.embed(tokens.T))[0][-1])


class Residual(nn.Module):
    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.stride, self.out = stride, width
        self.first, self.second = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm_first, self.norm_second = nn.GroupNorm(8, width), nn.GroupNorm(8, width)

    def forward(self, x):
        y = self.norm_second(self.second(F.relu(self.norm_first(self.first(x)))))
        if x.shape != y.shape:  # parameter-free shortcut
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.out - x.shape[1]))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, depth: int, classes: int):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.GroupNorm(8, 16)
        widths = [16] + [16 * 2**stage for stage in range(3) for _ in range((depth - 2) // 6)]
        self.blocks = nn.Sequential(*(Residual(a, b, 2 if a != b else 1) for a, b in itertools.pairwise(widths)))
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        return self.head(self.blocks(F.relu(self.norm(self.stem(x)))).mean(dim=(2, 3)))


def training(model: nn.Module, inputs, labels, compiled: bool, half: bool):
    """Returns `run(count)`, which trains for `count` steps with AdamW; in bfloat16 if `half`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def loss(inputs, labels):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
            logits = model(inputs)
        return F.cross_entropy(logits.float().flatten(0, -2), labels.flatten())

    computed = torch.compile(loss) if compiled else loss

    def run(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            computed(inputs, labels).backward()
            optimizer.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return run


def decoding(work: dict):
    """Returns (model, run): `run(count)` decodes `count` times greedily with GPT-2."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": work["depth"], "n_embd": work["width"], "n_head": work["heads"], "vocab_size": work["vocabulary"]}
    config = GPT2Config(**sizes, n_positions=1024, bos_token_id=0, eos_token_id=None, pad_token_id=0)
    model = GPT2LMHeadModel(config).to(getattr(torch, work["dtype"])).eval()
    prompt, tokens = torch.zeros((work["batch"], 1), dtype=torch.long), work["tokens"]

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            fixed = {"do_sample": False, "min_new_tokens": tokens, "max_new_tokens": tokens}
            written = model.generate(prompt, attention_mask=torch.ones_like(prompt), **fixed)
            assert written.shape[1] == tokens + 1

    return model, run


def make(name: str):
    """Returns (run, facts) of a workload, for `serve`."""
    torch.manual_seed(0)
    torch.set_default_device(DEVICE)
    work, compiled = (WORKS | ON_GPU)[name], "compiled" in sys.argv[2:]
    batch = work["batch"]
    if work["kind"] == "decode":
        model, run = decoding(work)
    elif work["kind"] == "gpt":
        model = GPT(work["depth"], work["width"], work["heads"], work["context"], work["vocabulary"])
        tokens = torch.randint(work["vocabulary"], (batch, work["context"] + 1))
        run = training(model, tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), compiled, work["dtype"] == "bfloat16")
    elif work["kind"] == "lstm":
        model = LSTM(work["width"], work["vocabulary"], work["classes"])
        tokens = torch.randint(work["vocabulary"], (batch, work["length"]))
        run = training(model, tokens, torch.randint(work["classes"], (batch,)), compiled, False)
    else:
        model = ResNet(work["depth"], work["classes"]).to(memory_format=torch.channels_last)
        pictures = torch.randn(batch, 3, work["size"], work["size"]).to(memory_format=torch.channels_last)
        run = training(model, pictures, torch.randint(work["classes"], (batch,)), compiled, False)
    parameters = sum(leaf.numel() for leaf in model.parameters())
    malloc = {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")}
    facts = {"parameters": parameters, "torch": torch.__version__, "threads": torch.get_num_threads(), "device": DEVICE}
    return run, {**facts, "malloc": malloc}


if __name__ == "__main__":
    serve(make)
