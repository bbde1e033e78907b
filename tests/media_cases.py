"""Tiny models of images and sound, and files for them, made here without any download."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def write_vit(folder: Path, **more) -> Path:
    """A tiny ViT without a head, with its image processor, saved the way a user has it."""
    shape = {"hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 4}
    config = transformers.ViTConfig(
        **shape, num_hidden_layers=3, image_size=8, patch_size=4, **more
    )
    torch.manual_seed(0)
    kind = transformers.ViTForImageClassification if more else transformers.ViTModel
    kind(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    return folder


def picture(colour: str, seed: int = 0, size: tuple[int, int] = (6, 5)):
    """A noisy picture of a colour."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, num: int = 4, seed: int = 0) -> Path:
    """A folder with a subfolder of pictures for each colour."""
    for place, colour in enumerate(COLOURS):
        (folder / colour).mkdir(parents=True)
        for number in range(num):
            picture(colour, 100 * seed + 10 * place + number).save(
                folder / colour / f"{number}.png"
            )
    return folder


def write_rows(path: Path, rows: list[dict]) -> Path:
    """A table of rows: csv or jsonl, by its suffix."""
    if path.suffix == ".jsonl":
        lines = map(json.dumps, rows)
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# Sound.

RATE = 16_000
WORDS = {"low": 300, "middle": 700, "high": 1300}
"""Words that are tones -> their frequency."""
LETTERS = "deghilmow"


def tone(word: str, seconds: float = 0.5, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A noisy tone that stands for a word."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.02, len(times))
    return (0.5 * np.sin(2 * np.pi * WORDS[word] * times) + noise).astype(np.float32)


def write_sounds(folder: Path, num: int = 6, *, form: str = "wav", rate: int = RATE) -> Path:
    """A folder of tones with metadata.csv, as in the hub's layout."""
    import soundfile

    folder.mkdir(parents=True)
    rows = []
    for number in range(num):
        word = [*WORDS][number % len(WORDS)]
        name = f"{number}.{form}"
        soundfile.write(folder / name, tone(word, 0.4 + 0.02 * number, number, rate), rate)
        rows.append({"file_name": name, "text": word.capitalize() + "!"})
    write_rows(folder / "metadata.csv", rows)
    return folder


def write_ctc(folder: Path, *, head: bool = True, masked: bool = False) -> Path:
    """A tiny wav2vec 2.0 with a tokenizer of a few letters; it may know what is padding."""
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS.upper()]
    folder.mkdir(parents=True)
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor(
        sampling_rate=RATE, return_attention_mask=masked
    )
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=32,
        conv_dim=(16, 16),
        conv_kernel=(10, 32),
        conv_stride=(5, 32),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        apply_spec_augment=False,
        feat_extract_norm="layer" if masked else "group",
    )
    torch.manual_seed(0)
    kind = transformers.Wav2Vec2ForCTC if head else transformers.Wav2Vec2Model
    kind(config).save_pretrained(folder)
    return folder


def write_whisper(folder: Path) -> Path:
    """A tiny Whisper that reads a second, with a tokenizer of bytes."""
    from tokenizers import pre_tokenizers

    folder.mkdir(parents=True)
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>"]
    special += ["<|translate|>", "<|notimestamps|>"]
    tokenizer = transformers.WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in special}
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=8, sampling_rate=RATE, chunk_length=1
    )
    transformers.WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    start, end = ids["<|startoftranscript|>"], ids["<|endoftext|>"]
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=8,
        d_model=24,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=50,
        max_target_positions=16,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config.update(
        max_length=16, no_timestamps_token_id=ids["<|notimestamps|>"], is_multilingual=False
    )
    model.generation_config.forced_decoder_ids = None
    model.save_pretrained(folder)
    return folder
