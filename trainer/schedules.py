"""Learning rates and Gumbel temperature by step."""

import math


def learning_rate(step: int, num_steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up to `peak`, then one cosine cycle to 0 at `num_steps` (section 4)."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def stepped_rate(step: int, num_steps: int, first: float) -> float:
    """`first`, and a tenth of it from 80 % of the steps on (appendix A.3)."""
    return first * (0.1 if 10 * step >= 8 * num_steps else 1.0)


def gumbel_temperature(step: int, num_steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` at the first step to `end` at the last (section 4: 1.0 to 0.1)."""
    progress = min(1.0, step / max(1, num_steps - 1))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
