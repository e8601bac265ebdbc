"""The moves that every GAN makes: one Adam step of one net, the end of a step, averaged weights, learning rates.

Mixed precision is done once, here: a net's weights lie in one run of memory in float32, their working copies in another
in 16 bits; convolutions read the copies and hand back 16-bit gradients, and the optimizer's one pass writes weights,
moments, copies and the average. Nothing is cast inside a step. Nothing in here waits for the GPU or moves a tensor to
another address, so a CUDA graph can hold all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pygan import nn as blocks
from pygan import streams
from pygan.device import precision
from pygan.ops._autograd import gradients_for
from pygan.ops._beside import check_taken, forget_all_uses, forget_uses
from pygan.ops.adam import adam_, find_inf_, loss_scale_update_
from pygan.ops.loss_sum import unit_seed
from pygan.recipe import BaseRecipe
from pygan.state import State

_ALIGN = 16  # values: every tensor begins at a multiple of it, so that 16 bytes can be read at once in any type
_BUCKET = 1 << 22  # values whose gradients are waited for before the optimizer takes them on beside the backward pass


@dataclass(frozen=True)
class _Slot:
    """A parameter's place in the flat tensors."""

    name: str
    param: nn.Parameter
    low: Tensor | None  # its working copy
    offset: int

    @property
    def leaf(self) -> Tensor:
        """What the net computes with, and autograd gives a gradient to."""
        return self.param if self.low is None or blocks.is_full_precision() else self.low

    def view(self, flat: Tensor) -> Tensor:
        """This parameter's part of a flat tensor, in its shape and memory order."""
        return flat.as_strided(self.param.shape, self.param.stride(), self.offset)


class Adam:
    """Adam (Kingma & Ba 2015) of one net, whose parameters lie side by side in one tensor from then on.

    low: torch.bfloat16 or torch.float16 for working copies of the weights of convolutions and linear layers, None for
    none. average: a copy of the net that follows it by `ema_weight` at each step. The learning rate, the betas and the
    number of steps are tensors on the device; `scale_lr_` moves the first where a step decides it there. Parameters
    that get no gradient (a bias that a norm hides) stay as they are.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        low: torch.dtype | None = None,
        average: nn.Module | None = None,
        ema_weight: float = 0.0,
    ) -> None:
        params = {name: param for name, param in net.named_parameters() if param.requires_grad}
        first = next(iter(params.values()))
        offsets, total = [], 0
        for param in params.values():
            offsets.append(total)
            total += -(-param.numel() // _ALIGN) * _ALIGN
        self._lr, self._eps, self._weight_decay, self._ema_weight = lr, eps, weight_decay, ema_weight
        self._param = _flatten(params.values(), offsets, total)
        self._exp_avg, self._exp_avg_sq = torch.zeros_like(self._param), torch.zeros_like(self._param)
        averaged = {} if average is None else dict(average.named_parameters())
        self._ema = None if average is None else _flatten((averaged[name] for name in params), offsets, total)
        self._low = None if low is None else self._param.to(low)
        copies = _working_copies(net, params, offsets, self._low)
        self._slots = [
            _Slot(name, param, copies.get(name), offset)
            for (name, param), offset in zip(params.items(), offsets, strict=True)
        ]
        self._hyper = torch.tensor([lr, *betas], dtype=torch.float64, device=first.device)  # 1 - 0.999 needs the digits
        self._unscaled_lr = torch.tensor(lr, dtype=torch.float64, device=first.device)
        self._step = torch.zeros((), dtype=torch.int64, device=first.device)
        self.found_inf = torch.zeros((), dtype=torch.float32, device=first.device)
        self._sample: Tensor | None = None  # places of `layer_rms`
        # Gradients that wait for more of their stream; None: they need not.
        self._arrived: dict[int, list[_Slot]] | None = None
        for slot in self._slots:
            for leaf in (slot.param, slot.low):
                if leaf is not None:
                    leaf.register_post_accumulate_grad_hook(lambda leaf, slot=slot: self._arrive(slot))

    @property
    def lr(self) -> float:
        """The learning rate of the next step, without the factor of `scale_lr_`."""
        return self._lr

    def set_lr_(self, lr: float) -> None:
        """Set the learning rate, in the tensor that is already there."""
        if lr != self._lr:
            self._lr = lr
            self._hyper[0].fill_(lr)
            self._unscaled_lr.fill_(lr)

    @torch.no_grad()
    def scale_lr_(self, factor: Tensor) -> None:
        """Learn at `factor` (0-d, on the device) times the rate of `set_lr_`, until that is next called or this.

        For a rate that a step decides on the device: a step that calls this before each `update`, with a factor that
        its state holds, goes on the same after a checkpoint and inside a CUDA graph.
        """
        torch.mul(self._unscaled_lr, factor, out=self._hyper[0])

    def leaves(self) -> list[Tensor]:
        """What gradients are computed for."""
        return [slot.leaf for slot in self._slots]

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds, live: the moments by the names of the parameters, and the number of steps."""
        moments = {"exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}
        named = {f"{slot.name}.{key}": slot.view(flat) for slot in self._slots for key, flat in moments.items()}
        return named | {"step": self._step}

    @torch.no_grad()
    def layer_rms(self, most: int = 1024) -> tuple[Tensor, Tensor]:
        """Root mean squares by layer, in the order of the net: (of its gradient, of its weight), float32 (layers,).

        The gradient is Adam's running mean of it, bias corrected and without a loss scale. Layers are the parameters of
        two dimensions or more; of each only `most` values are looked at, spread over it (`most` of the first call).
        Nobody waits.
        """
        if self._sample is None:
            slots = [slot for slot in self._slots if slot.param.dim() > 1] or self._slots
            ticks = torch.arange(most, device=self._param.device)
            places = [slot.offset + ticks * max(1, slot.param.numel() // most) % slot.param.numel() for slot in slots]
            self._sample = torch.stack(places)
        bias = -torch.expm1(self._step * torch.log(self._hyper[1]))  # 1 - beta1^step; 0 before the first step
        sizes = [flat[self._sample].double().square().mean(dim=1).sqrt() for flat in (self._exp_avg, self._param)]
        return torch.where(bias > 0, sizes[0] / bias, 0.0).float(), sizes[1].float()

    @torch.no_grad()
    def refresh_(self) -> None:
        """The weights were written by someone else: round them into the working copies again."""
        if self._low is not None:
            self._low.copy_(self._param)

    def update(self, loss: Tensor, scale: Tensor | None, also: Sequence[Tensor] = ()) -> None:
        """One step down the 0-d `loss`. scale: of the loss, float32 on the device; the gradients are divided by it.

        also: other leaves of the graph, whose gradients (of the scaled loss) are left in their `grad`.

        Where work overlaps (`streams`), weights move beside the backward pass as soon as their gradients are there;
        with a loss scale only when all are known to be finite.
        """
        leaves = self.leaves()
        self._arrived = {} if scale is None and streams.overlaps(loss) else None
        try:
            with gradients_for(leaves):
                loss.backward(gradient=_seed(loss, scale), inputs=[*leaves, *also])
            if self._arrived is not None:  # the current stream waits for every stream of the pass by now
                self._apply_beside([slot for waiting in self._arrived.values() for slot in waiting])
        except BaseException:
            for leaf in leaves:
                leaf.grad = None
            raise
        finally:
            self._arrived = None
            forget_uses()
        streams.join(loss.device)
        late = [slot for slot in self._slots if slot.leaf.grad is not None]
        if late and scale is not None:
            find_inf_([slot.leaf.grad for slot in late], self.found_inf)
        if late:
            self._apply(late, scale)
        with torch.no_grad():
            self._step.add_(1 if scale is None else (self.found_inf == 0).to(torch.int64))

    def _arrive(self, slot: _Slot) -> None:
        """A gradient is complete."""
        check_taken(slot.leaf)
        if self._arrived is None:
            return
        # By stream: the side stream waits for the one that is current, and for no other, and so must the gradients and
        # whatever still reads their weights be.
        waiting = self._arrived.setdefault(streams.here(slot.leaf), [])
        waiting.append(slot)
        if sum(slot.param.numel() for slot in waiting) >= _BUCKET:
            self._apply_beside(waiting)
            waiting.clear()

    def _apply_beside(self, slots: Sequence[_Slot]) -> None:
        if slots:
            with streams.beside(*(slot.leaf.grad for slot in slots)):
                self._apply(slots, None)

    @torch.no_grad()
    def _apply(self, slots: Sequence[_Slot], scale: Tensor | None) -> None:
        adam_(
            self._param,
            self._exp_avg,
            self._exp_avg_sq,
            [slot.leaf.grad for slot in slots],
            [slot.offset for slot in slots],
            hyper=self._hyper,
            step=self._step,
            eps=self._eps,
            weight_decay=self._weight_decay,
            low=self._low,
            ema=self._ema,
            ema_weight=self._ema_weight,
            scale=scale,
            found_inf=None if scale is None else self.found_inf,
        )
        for slot in slots:
            slot.leaf.grad = None


def _flatten(params: Iterator[nn.Parameter], offsets: Sequence[int], total: int) -> Tensor:
    """One tensor that holds all parameters, each a view of it from now on, in its own memory order."""
    params = list(params)
    flat = params[0].new_zeros(total)
    for param, offset in zip(params, offsets, strict=True):
        data = param.data
        dense = data.is_contiguous() or (data.dim() == 4 and data.is_contiguous(memory_format=torch.channels_last))
        data = data if dense else data.contiguous()
        view = flat.as_strided(data.shape, data.stride(), offset)
        view.copy_(data)
        param.data = view
    return flat


def _working_copies(
    net: nn.Module, params: dict[str, nn.Parameter], offsets: Sequence[int], flat: Tensor | None
) -> dict[str, Tensor]:
    """Give the layers of `net` their working copies, views of `flat`; by the name of the parameter."""
    where, copies = dict(zip(params, offsets, strict=True)), {}
    for path, layer in net.named_modules():
        if flat is None or not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        for key in ("weight", "bias"):
            name = f"{path}.{key}" if path else key
            if name in where:
                view = flat.as_strided(params[name].shape, params[name].stride(), where[name])
                # .data: a version counter of its own, or autograd would take an update of one weight for one of all
                copies[name] = view.data.requires_grad_()
        prefix = f"{path}." if path else ""
        if f"{prefix}weight" in copies:
            layer.low = blocks.Low(copies[f"{prefix}weight"], copies.get(f"{prefix}bias"))
    return copies


def _seed(loss: Tensor, scale: Tensor | None) -> Tensor | None:
    """The gradient of the loss itself: 1 as a tensor that losses know, so that they need not multiply by it."""
    if scale is not None:
        return scale.to(loss.dtype)
    return unit_seed(loss.device) if loss.dtype == torch.float32 else None


def adam(net: nn.Module, recipe: BaseRecipe, *, lr: float | None = None, average: nn.Module | None = None) -> Adam:
    """Adam over the parameters of `net` with the recipe's numbers, precision and, for `average`, half-life."""
    dtype, _ = precision(recipe, next(net.parameters()).device)
    return Adam(
        net,
        lr=recipe.lr if lr is None else lr,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=recipe.weight_decay,
        low=None if dtype == torch.float32 else dtype,
        average=average,
        ema_weight=_ema_weight(recipe),
    )


def loss_scale(recipe: BaseRecipe, device: torch.device) -> dict[str, Tensor]:
    """The buffers of a state that scale its losses: of fp16 training, else none."""
    if precision(recipe, device)[0] != torch.float16:
        return {}
    return {
        "loss_scale": torch.tensor(2.0**16, dtype=torch.float32, device=device),
        "loss_scale_growth": torch.zeros((), dtype=torch.int32, device=device),
    }


def update(state: State, name: str, loss: Tensor, also: Sequence[Tensor] = ()) -> None:
    """One Adam step of net `name` ("G", "D") down the 0-d `loss`; its average follows. No other net gets gradients.

    also: leaves that are no parameters, such as the images that a net judged: their gradients, times the loss scale if
    there is one, are left in their `grad`. With a loss scale the net is left as it is if a gradient is not finite. The
    scale itself moves in `end_step_`.
    """
    state.opts[name].update(loss, state.buffers.get("loss_scale"), also)


@torch.no_grad()
def end_step_(state: State, recipe: BaseRecipe) -> None:
    """After all updates of a step: the next random numbers, the next loss scale, the averages' running statistics."""
    streams.finish(state.device)
    forget_all_uses()
    state.rng[1].add_(1)
    if "loss_scale" in state.buffers:
        found = torch.stack([opt.found_inf for opt in state.opts.values()]).amax()
        loss_scale_update_(state.loss_scale, state.loss_scale_growth, found)
        torch._foreach_zero_([opt.found_inf for opt in state.opts.values()])
    for name, average in state.ema.items():
        average_buffers_(average, state.nets[name], _ema_weight(recipe))


def _ema_weight(recipe: BaseRecipe) -> float:
    """How far an average moves in a step: after `ema_half_life_images` images half of the old is left."""
    return 1.0 - 0.5 ** (recipe.batch / recipe.ema_half_life_images) if recipe.ema_half_life_images else 0.0


@torch.no_grad()
def average_buffers_(average: nn.Module, net: nn.Module, weight: float) -> None:
    """Move the buffers (running statistics) of `average` by `weight` towards those of `net`; integers are copied."""
    pairs = list(zip(average.buffers(), net.buffers(), strict=True))
    if floats := [pair for pair in pairs if pair[0].is_floating_point()]:
        torch._foreach_lerp_([old for old, _ in floats], [new for _, new in floats], weight)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)


def lr_factor(schedule: str, epoch: int, epochs: int, decay_epochs: int) -> float:
    """What to multiply the recipe's lr by in `epoch` (1-based), after `epochs` constant ones and over `decay_epochs`.

    "linear" falls to 1 / (decay_epochs + 1) in the last epoch; "linear_jy_old" (the PyTorch port before 2019) is one
    epoch ahead and trains its last at 0; "linear_torch7" (CycleGAN's Lua code) is one epoch behind; "const" stays 1.
    """
    if epoch < 1:
        raise ValueError(f"epoch counts from 1, got {epoch}")
    if schedule == "const":
        return 1.0
    if schedule == "linear":
        return max(0.0, 1.0 - max(0, epoch - epochs) / (decay_epochs + 1))
    if schedule == "linear_jy_old":
        return max(0.0, 1.0 - max(0, epoch + 1 - epochs) / (decay_epochs + 1))
    if schedule == "linear_torch7":
        return 1.0 if epoch <= epochs + 1 else max(0.0, 1.0 - (epoch - epochs - 1) / decay_epochs)
    raise ValueError(f"schedule must be linear, const, linear_jy_old or linear_torch7, got {schedule!r}")
