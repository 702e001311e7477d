"""The views of DINO (Caron et al. 2021, appendix; facebookresearch/dino), which the paper trains with."""

from dataclasses import replace

from trainer.recipe import View

_DINO_SIZE = 224
"""Side of the global views for which DINO's blur was chosen."""


def dino_views(
    global_size: int, local_size: int, num_local: int = 8
) -> tuple[tuple[View, ...], tuple[View, ...]]:
    """Two global views and `num_local` local ones, for `Recipe.global_views` and `local_views`.

    Global views take 40 to 100 % of the image's area and local ones 5 to 40 %. The first global view is
    always blurred, the second seldom, but it may be solarized. The blur is scaled with the global size.
    """
    scale = global_size / _DINO_SIZE
    plain = View(
        size=global_size,
        scale=(0.4, 1.0),
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grey=0.2,
        blur_sigma=(0.1 * scale, 2.0 * scale),
    )
    first = replace(plain, blur=1.0)
    second = replace(plain, blur=0.1, solarize=0.2)
    local = replace(plain, size=local_size, scale=(0.05, 0.4), blur=0.5)
    return (first, second), (local,) * num_local
