"""The yardstick: CycleGAN as anyone would write it in PyTorch, with the library's own layers and nothing of pygan.

Residual generators and 70x70 PatchGANs of Zhu et al. 2017, InstanceNorm, LSGAN, cycles, identity, a pool of 50 images
per domain, one Adam for both Gs and one for both Ds, in the order of the authors' PyTorch code: Gs, then Ds.
"""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.plain import Plain, compiled, plain_patchgan


class PlainBlock(nn.Module):
    """x + IN(conv(relu(IN(conv(x))))), reflected borders."""

    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        return x + self.body(x)


def plain_resnet(width, blocks):
    """7x7, two halvings, residual blocks, two doublings, 7x7; a bias in every convolution."""
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), nn.InstanceNorm2d(width), nn.ReLU()]
    for c in (width, 2 * width):
        layers += [nn.Conv2d(c, 2 * c, 3, 2, 1), nn.InstanceNorm2d(2 * c), nn.ReLU()]
    layers += [PlainBlock(4 * width) for _ in range(blocks)]
    for c in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1), nn.InstanceNorm2d(c // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())


class PlainPool:
    """The last images of a domain: half of the time an older one comes back for a new one (Shrivastava et al. 2017).

    On the device and without waiting, so that a CUDA graph can hold it. All images of a batch change places at once:
    two that draw the same slot, rare with 50 of them, see what it held before.
    """

    def __init__(self, capacity, shape, device):
        self.images = torch.zeros((capacity, *shape), device=device)
        self.count = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def exchange(self, fresh):
        capacity, n = len(self.images), len(fresh)
        turn = self.count + torch.arange(n, device=fresh.device)
        filling = turn < capacity
        slot = torch.where(filling, turn, torch.randint(capacity, (n,), device=fresh.device))
        older = ~filling & (torch.rand(n, device=fresh.device) > 0.5)
        stored = self.images[slot]
        self.images[slot] = torch.where((filling | older)[:, None, None, None], fresh.float(), stored)
        self.count.add_(n).clamp_(max=capacity)
        return torch.where(older[:, None, None, None], stored, fresh.float())


class PlainCycleGAN(Plain):
    """CycleGAN; pool: images remembered per domain, 0 for none; how: of `Plain`."""

    def __init__(self, size, device, *, width=64, blocks=9, pool=50, **how):
        G = nn.ModuleDict({way: plain_resnet(width, blocks) for way in ("AtoB", "BtoA")})
        D = nn.ModuleDict({domain: plain_patchgan(3, width, nn.InstanceNorm2d) for domain in "AB"})
        super().__init__(G, D, device, **how)
        self.pools = {domain: PlainPool(pool, (3, size, size), device) for domain in "AB"} if pool else {}

    def compile_(self):
        for nets in self.nets.values():
            for name, net in nets.items():
                nets[name] = compiled(net)

    def step(self, A, B):
        AtoB, BtoA = self.G["AtoB"], self.G["BtoA"]
        fake_B, fake_A = AtoB(A), BtoA(B)
        cycled_A, cycled_B = BtoA(fake_B), AtoB(fake_A)
        self.D.requires_grad_(False)
        logits_A, logits_B = self.D["A"](fake_A), self.D["B"](fake_B)
        losses = {
            "loss/G_A": F.mse_loss(logits_A, torch.ones_like(logits_A)),
            "loss/G_B": F.mse_loss(logits_B, torch.ones_like(logits_B)),
            "loss/cycle_A": 10 * F.l1_loss(cycled_A, A),
            "loss/cycle_B": 10 * F.l1_loss(cycled_B, B),
            "loss/identity_A": 5 * F.l1_loss(BtoA(A), A),
            "loss/identity_B": 5 * F.l1_loss(AtoB(B), B),
        }
        self.update("G", sum(losses.values()))
        self.D.requires_grad_(True)
        for domain, real, fake in (("A", A, fake_A.detach()), ("B", B, fake_B.detach())):
            if self.pools:
                fake = self.pools[domain].exchange(fake)
            real_logits, fake_logits = self.D[domain](real), self.D[domain](fake)
            real_loss = F.mse_loss(real_logits, torch.ones_like(real_logits))
            fake_loss = F.mse_loss(fake_logits, torch.zeros_like(fake_logits))
            losses[f"loss/D_{domain}"] = 0.5 * (real_loss + fake_loss)
        self.update("D", losses["loss/D_A"] + losses["loss/D_B"])
        return {name: loss.detach() for name, loss in losses.items()}
