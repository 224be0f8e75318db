"""Workloads by name, with the sizes that both sides use. `gpt2_train` needs a GPU and runs only if it is named."""

GPT = {
    "gpt_small": {"depth": 2, "width": 128, "heads": 4, "context": 64, "batch": 64, "vocabulary": 256},
    "gpt_medium": {"depth": 4, "width": 256, "heads": 4, "context": 128, "batch": 32, "vocabulary": 256},
}
WORKS: dict[str, dict] = {name: {"kind": "gpt", **sizes, "dtype": "float32"} for name, sizes in GPT.items()}
WORKS |= {f"{name}_bf16": {"kind": "gpt", **sizes, "dtype": "bfloat16"} for name, sizes in GPT.items()}
WORKS["lstm"] = {"kind": "lstm", "width": 64, "length": 40, "batch": 128, "vocabulary": 256, "classes": 2}
WORKS["resnet20"] = {"kind": "resnet", "depth": 20, "size": 32, "batch": 64, "classes": 10}
SMALL = {"depth": 4, "width": 256, "heads": 4, "vocabulary": 256, "tokens": 128, "dtype": "float32"}
GPT2 = {"depth": 12, "width": 768, "heads": 12, "vocabulary": 50_257, "tokens": 64, "dtype": "float32"}
WORKS |= {f"decode_4x256_batch{batch}": {"kind": "decode", **SMALL, "batch": batch} for batch in (1, 8)}
WORKS |= {f"decode_gpt2_batch{batch}": {"kind": "decode", **GPT2, "batch": batch} for batch in (1, 8)}
ON_GPU = {"gpt2_train": {"kind": "gpt", **{key: GPT2[key] for key in ("depth", "width", "heads", "vocabulary")}}}
ON_GPU["gpt2_train"] |= {"context": 1024, "batch": 16, "dtype": "bfloat16"}
WORKS["decode_gpt2_batch8_bf16"] = {"kind": "decode", **GPT2, "batch": 8, "dtype": "bfloat16"}
