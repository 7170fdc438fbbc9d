"""FourierFT: a few trained coefficients of the added weight's two-dimensional spectrum."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, Zero, frozen
from rsverify.definitions.wrapped import WrappedAdapter


def _start(W, drawn, *, gamma, rank):
    import torch

    # The places are drawn once from a seed of their own, as in PEFT (random_loc_seed 777): they are not a matter of init.
    places = torch.randperm(W.numel(), generator=torch.Generator().manual_seed(777))[:rank]
    return {"c": W.new_zeros(min(rank, W.numel())), "places": places.to(W.device)}, W


def _weight(base, factors, *, gamma, rank):
    import torch

    c = factors["c"]
    wide = torch.promote_types(c.dtype, torch.float32)  # no FFT in half precision
    spectrum = torch.zeros(base.numel(), dtype=wide, device=c.device).index_put((factors["places"],), c.to(wide))
    return base + gamma * torch.fft.ifft2(spectrum.reshape(base.shape)).real.to(base.dtype)


_WHY = "the places of its coefficients in the spectrum are drawn without replacement: the waves are dependent"

fourierft = WrappedAdapter(
    "fourierft",
    Adapter("random-waves", "r, r o i -> o i", c=Zero(), waves=frozen(Gaussian(std="1/(sqrt(2)*d_in*d_out)")), rule="alpha"),
    {"symbolic": _WHY, "montecarlo": _WHY},
    _start,
    _weight,
    lambda r, d_in, d_out: min(r, d_in * d_out),
    ("c",),
    rule="alpha",
    source="Gao et al. 2024, arXiv 2405.03003; algebra of PEFT 0.21.2 (scaling 150 there)",
    counts="trained frequencies, up to d_in * d_out",
    note="gamma is alpha, whatever the number of frequencies. The core has independent entries of the waves' variance in their place.",
)
