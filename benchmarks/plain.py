"""The yardstick: pix2pix as anyone would write it in PyTorch, with the library's own layers and nothing of pygan.

U-Net and 70x70 PatchGAN of Isola et al. 2017, BatchNorm, BCE with logits and L1, two Adams; D on the real pair, D on
the fake pair, then G. `plain_cyclegan.py` is CycleGAN in the same way. Parameters come in the order in which pygan's
networks have theirs, and losses under the names of pygan's logs, so that both can start from the same weights and be
compared.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Plain:
    """Two networks, their Adams, and a step.

    G, D: on the CPU. Their weights are drawn there, N(0, 0.02), so that they are the same on every device and in every
    memory layout. fused, capturable: of Adam; None leaves the choice to PyTorch.
    """

    def __init__(self, G, D, device, *, seed=0, channels_last=False, fused=None, capturable=False, lr=2e-4):
        torch.manual_seed(seed)
        for module in (*G.modules(), *D.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.G, self.D = (net.to(device, memory_format=layout) for net in (G, D))
        lr = torch.tensor(lr, device=device) if capturable else lr
        adam = {"betas": (0.5, 0.999), "fused": fused, "capturable": capturable}
        self.opts = {name: torch.optim.Adam(net.parameters(), lr, **adam) for name, net in self.nets.items()}

    @property
    def nets(self):
        return {"G": self.G, "D": self.D}

    def compile_(self):
        """torch.compile what the step calls."""
        self.G, self.D = compiled(self.G), compiled(self.D)

    def update(self, name, loss):
        """One Adam step of a network down its loss."""
        self.opts[name].zero_grad(set_to_none=True)
        loss.backward()
        self.opts[name].step()

    def set_lr_(self, lr):
        """Set the learning rate; where it is a tensor, in that tensor."""
        for opt in self.opts.values():
            for group in opt.param_groups:
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(lr)
                else:
                    group["lr"] = lr

    def step(self, A, B):
        """One iteration; returns the losses by the names of pygan's logs, as tensors."""
        raise NotImplementedError


def compiled(module):
    """torch.compile for the shapes that come; what cannot be compiled whole is an error, not a slower run."""
    torch._dynamo.config.recompile_limit = 64  # of all modules together, whose calls share their code
    return torch.compile(module, dynamic=False, fullgraph=True)


class PlainUNet(nn.Module):
    """4x4 convolutions of stride 2 down, transposed ones up, skips by torch.cat (decoder first); at most 8 halvings."""

    def __init__(self, size, ngf=64, dropout=0.5):
        super().__init__()
        levels = min(8, size.bit_length() - 1)
        wide = [ngf * min(8, 2**i) for i in range(levels)]
        self.downs = nn.ModuleList()
        for i, (c, c_next) in enumerate(zip([3, *wide], wide, strict=False)):
            block = [nn.Conv2d(c, c_next, 4, 2, 1, bias=False)]
            if 0 < i < levels - 1:
                block.append(nn.BatchNorm2d(c_next))
            self.downs.append(nn.Sequential(*block))
        self.ups = nn.ModuleList()
        c = wide[-1]
        for i, c_next in enumerate(wide[-2::-1]):
            block = [nn.ConvTranspose2d(c, c_next, 4, 2, 1, bias=False), nn.BatchNorm2d(c_next)]
            if i < 3:
                block.append(nn.Dropout(dropout))
            self.ups.append(nn.Sequential(*block))
            c = 2 * c_next
        self.head = nn.ConvTranspose2d(c, 3, 4, 2, 1)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.downs):
            x = down(x if i == 0 else F.leaky_relu(x, 0.2))
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = torch.cat((up(F.relu(x)), skips.pop()), 1)
        return torch.tanh(self.head(F.relu(x)))


def plain_patchgan(c_in, ndf, norm):
    """Three convolutions of stride 2 and two of stride 1: each logit sees 70x70 pixels. norm: a module class."""
    layers, c = [nn.Conv2d(c_in, ndf, 4, 2, 1), nn.LeakyReLU(0.2)], ndf
    with_bias = norm is not nn.BatchNorm2d
    for c_next, stride in ((2 * ndf, 2), (4 * ndf, 2), (8 * ndf, 1)):
        layers += [nn.Conv2d(c, c_next, 4, stride, 1, bias=with_bias), norm(c_next), nn.LeakyReLU(0.2)]
        c = c_next
    return nn.Sequential(*layers, nn.Conv2d(c, 1, 4, 1, 1))


class PlainPix2pix(Plain):
    """pix2pix; how: of `Plain`."""

    def __init__(self, size, device, *, width=64, dropout=0.5, **how):
        super().__init__(PlainUNet(size, width, dropout), plain_patchgan(6, width, nn.BatchNorm2d), device, **how)

    def step(self, A, B):
        fake = self.G(A)
        self.D.requires_grad_(True)
        real_logits = self.D(torch.cat((A, B), 1))
        fake_logits = self.D(torch.cat((A, fake.detach()), 1))
        bce = F.binary_cross_entropy_with_logits
        real_loss = bce(real_logits, torch.ones_like(real_logits))
        fake_loss = bce(fake_logits, torch.zeros_like(fake_logits))
        loss_D = 0.5 * (real_loss + fake_loss)
        self.update("D", loss_D)
        self.D.requires_grad_(False)
        logits = self.D(torch.cat((A, fake), 1))
        loss_gan, loss_l1 = bce(logits, torch.ones_like(logits)), 100 * F.l1_loss(fake, B)
        self.update("G", loss_gan + loss_l1)
        return {"loss/D": loss_D.detach(), "loss/G_gan": loss_gan.detach(), "loss/G_l1": loss_l1.detach()}
