import subprocess
import sys

import pytest

from chembench.errors import ConfigError, UnknownNameError
from chembench.models.sizes import count_parameters, flops_per_token, resolve

PAPER = {
    ("roberta", "13M"): 12_872_995,
    ("roberta", "30M"): 29_303_913,
    ("bart", "13M"): 13_570_857,
    ("bart", "30M"): 29_698_665,
    ("llama", "13M"): 13_204_305,
    ("llama", "30M"): 29_447_529,
}
ARCHITECTURES = ("roberta", "bart", "llama")


def spec_of(architecture, size, **changes):
    facts = {"vocabulary": 591, "max_length": 512, "pad_id": 0, "bos_id": 12, "eos_id": 13} | changes
    return resolve(architecture, size, **facts)


@pytest.mark.parametrize(("architecture", "size"), PAPER)
def test_the_six_models_of_the_paper_have_its_parameter_counts(architecture, size):
    assert count_parameters(spec_of(architecture, size), outputs=105) == PAPER[architecture, size]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", ["13M", "30M", "w32x1", "w24x2", "w64x2", "w96x3", "w128x5"])
def test_the_count_is_that_of_the_built_model(architecture, size):
    import torch

    from chembench.models.base import build_pretraining_model

    spec = spec_of(architecture, size, vocabulary=97, max_length=130)
    with torch.device("meta"):
        model = build_pretraining_model(spec, outputs=11, seed=0)
    assert count_parameters(spec, outputs=11) == sum(p.numel() for p in model.parameters())


def test_the_pattern_gives_heads_and_feed_forward_widths():
    roberta, bart, llama = (spec_of(name, "w96x3") for name in ARCHITECTURES)
    assert (roberta.hidden, roberta.ffn, roberta.layers, roberta.decoder_layers, roberta.heads) == (96, 384, 3, 0, 3)
    assert (bart.hidden, bart.ffn, bart.layers, bart.decoder_layers, bart.heads) == (96, 384, 2, 1, 3)
    assert (llama.hidden, llama.ffn, llama.layers, llama.decoder_layers, llama.heads) == (96, 256, 3, 0, 3)
    assert spec_of("bart", "w32x1").decoder_layers == 1
    assert [spec_of("llama", f"w{width}x1").ffn for width in (16, 32, 64, 128)] == [40, 88, 168, 344]


def test_flops_agree_with_a_count_by_hand():
    spec = spec_of("roberta", "w32x1")
    matrices = 4 * 32 * 32 + 2 * 32 * 128
    by_hand = 6 * (10 * matrices + 32 * 105) / 10 + 12 * 10 * 32
    assert flops_per_token(spec, outputs=105, length=10) == pytest.approx(by_hand)


def test_causal_attention_costs_half():
    spec = spec_of("llama", "w32x2")
    longer = flops_per_token(spec, 0, 30) - flops_per_token(spec, 0, 20)
    assert longer == pytest.approx(2 * 6 * 10 * 32)


def test_a_bart_token_passes_encoder_decoder_and_cross_attention():
    spec = spec_of("bart", "w32x2")
    weights = (4 * 32 * 32 + 2 * 32 * 128) + (8 * 32 * 32 + 2 * 32 * 128)
    assert flops_per_token(spec, 0, 8) == pytest.approx(6 * weights + 12 * 8 * 32 * (1 + 0.5 + 1))


@pytest.mark.parametrize("size", ["13m", "64x2", "w0x2", "w64x0", "w64", "w64x2 "])
def test_an_unknown_size_is_told_with_names_and_pattern(size):
    with pytest.raises(UnknownNameError, match=r"unknown size .*13M, 30M, w\{width\}x\{layers\}"):
        spec_of("roberta", size)


def test_an_unknown_architecture_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown architecture 'robert'\. Did you mean 'roberta'"):
        spec_of("robert", "13M")


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match=r"divisible by the number of attention heads, got 100 with 3 heads.*w96"):
        spec_of("roberta", "w100x2")


def test_rotary_heads_of_odd_width_are_refused():
    with pytest.raises(ConfigError, match=r"rotary positions need heads of even width, got 33 .*w32"):
        spec_of("llama", "w33x2")
    assert spec_of("roberta", "w33x2").hidden == 33


def test_ids_outside_the_vocabulary_are_all_told():
    with pytest.raises(ConfigError) as error:
        spec_of("bart", "w32x1", vocabulary=12)
    assert [p.split()[0] for p in error.value.problems] == ["bos_id", "eos_id"]
    assert "below the vocabulary of 12, got 13" in str(error.value)


def test_padding_needs_a_token_of_its_own():
    with pytest.raises(ConfigError, match="pad_id must differ from bos_id and eos_id"):
        spec_of("bart", "w32x1", pad_id=13)


def test_decoder_layers_belong_to_bart():
    from chembench.models.base import build_pretraining_model

    spec = spec_of("llama", "w32x1").model_copy(update={"decoder_layers": 1})
    with pytest.raises(ConfigError, match="bart needs at least 1 decoder layer and the others have none, got 1"):
        build_pretraining_model(spec, outputs=3, seed=0)


def test_sizes_import_no_torch():
    code = "import sys, chembench.models.sizes; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "numpy"} & set(loaded.stdout.split())
