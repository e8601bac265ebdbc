"""The yardstick: pix2pix as anyone would write it in PyTorch, with the library's own layers and nothing of pygan.

U-Net and 70x70 PatchGAN of Isola et al. 2017, BatchNorm, BCE with logits and L1, two Adams; D on the real pair, D on
the fake pair, then G. `Plain.parameters_in_order` lists the weights in the order in which pygan's networks have theirs,
so that both can start from the same ones.
"""

import torch
import torch.nn.functional as F
from torch import nn


class PlainUNet(nn.Module):
    """4x4 convolutions of stride 2 down, transposed ones up, skips by torch.cat (decoder first)."""

    def __init__(self, size, ngf=64, dropout=0.5):
        super().__init__()
        levels = size.bit_length() - 1
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


def plain_patchgan(ndf=64):
    """Three convolutions of stride 2 and two of stride 1 on 6 channels: each logit sees 70x70 pixels."""
    layers, c = [nn.Conv2d(6, ndf, 4, 2, 1), nn.LeakyReLU(0.2)], ndf
    for c_next, stride in ((2 * ndf, 2), (4 * ndf, 2), (8 * ndf, 1)):
        layers += [nn.Conv2d(c, c_next, 4, stride, 1, bias=False), nn.BatchNorm2d(c_next), nn.LeakyReLU(0.2)]
        c = c_next
    return nn.Sequential(*layers, nn.Conv2d(c, 1, 4, 1, 1))


class Plain:
    """Nets, optimizers and the step."""

    def __init__(self, size, device, *, ngf=64, dropout=0.5, channels_last=False, fused=None, capturable=False):
        torch.manual_seed(0)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.G = PlainUNet(size, ngf, dropout).to(device, memory_format=layout)
        self.D = plain_patchgan(ngf).to(device, memory_format=layout)
        for net in (self.G, self.D):
            for module in net.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.normal_(module.weight, 0.0, 0.02)
                elif isinstance(module, nn.BatchNorm2d):
                    nn.init.normal_(module.weight, 1.0, 0.02)
        lr = torch.tensor(2e-4, device=device) if capturable else 2e-4
        adam = {"lr": lr, "betas": (0.5, 0.999), "fused": fused, "capturable": capturable}
        self.opt_G = torch.optim.Adam(self.G.parameters(), **adam)
        self.opt_D = torch.optim.Adam(self.D.parameters(), **adam)

    def parameters_in_order(self):
        """{"G": [...], "D": [...]}: convolution weights, norm scales and shifts from the input to the output."""
        return {"G": list(self.G.parameters()), "D": list(self.D.parameters())}

    def step(self, A, B):
        """One iteration; returns (loss_D, loss_gan, loss_l1) as tensors."""
        fake = self.G(A)
        for p in self.D.parameters():
            p.requires_grad_(True)
        real_logits = self.D(torch.cat((A, B), 1))
        fake_logits = self.D(torch.cat((A, fake.detach()), 1))
        bce = F.binary_cross_entropy_with_logits
        real_loss = bce(real_logits, torch.ones_like(real_logits))
        fake_loss = bce(fake_logits, torch.zeros_like(fake_logits))
        loss_D = 0.5 * (real_loss + fake_loss)
        self.opt_D.zero_grad(set_to_none=True)
        loss_D.backward()
        self.opt_D.step()
        for p in self.D.parameters():
            p.requires_grad_(False)
        logits = self.D(torch.cat((A, fake), 1))
        loss_gan, loss_l1 = bce(logits, torch.ones_like(logits)), 100 * F.l1_loss(fake, B)
        self.opt_G.zero_grad(set_to_none=True)
        (loss_gan + loss_l1).backward()
        self.opt_G.step()
        return loss_D.detach(), loss_gan.detach(), loss_l1.detach()
