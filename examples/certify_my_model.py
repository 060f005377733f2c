# %% [markdown]
# # Certify my model
#
# You have a PyTorch network and some images, and you want to know how far each image may be
# moved before the answer can change. This page starts with a network that Phalanx has never
# seen, certifies it, and reads the result. It needs no files and runs in seconds.

# %%
import argparse

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import phalanx

arguments = argparse.ArgumentParser(description="Certify a network of your own.")
arguments.add_argument("--images", type=int, default=20, help="how many test images")
arguments.add_argument("--n", type=int, default=1000, help="noisy copies of each image")
asked = arguments.parse_args()

# %% [markdown]
# ## A network and its data
#
# Eight by eight grey images between 0 and 1. Smoothing works only where the network is used to
# noise, so it is trained on noisy copies. The noise level `sigma` is in the units of the image.

# %%
sigma = 0.25
train, test = phalanx.load_data("digits", split="train"), phalanx.load_data("digits")
x, y = train.images(range(len(train))), train.labels(range(len(train)))

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
for _ in range(60):
    for batch in torch.randperm(len(x)).split(128):
        noisy = x[batch] + sigma * torch.randn_like(x[batch])
        optimizer.zero_grad()
        cross_entropy(network(noisy), y[batch]).backward()
        optimizer.step()
network.eval()

# %% [markdown]
# ## Certify
#
# A plain module does not say which inputs it expects, so we say it: values between 0 and 1, ten
# classes, no normalisation. The result lives in memory; `out="my-run"` would keep it in a folder.

# %%
model = phalanx.Model(network, phalanx.InputSpec(range=(0, 1), shape=(1, 8, 8)), classes=10)
chosen = range(asked.images)
res = phalanx.certify(model, test.images(chosen), test.labels(chosen), sigma=sigma, n=asked.n)
print(res.table())

# %% [markdown]
# ## One image
#
# A radius is an l2 distance. Within it the *smoothed* classifier gives the same answer, with
# probability at least 1 - alpha over the noise that was drawn. Where the votes prove nothing the
# verdict is `abstained`, and the radius is 0.

# %%
first = res[0]
print(f"image {first.image}: {first.verdict.value}, class {first.predicted}, {first.radius:.3f}")

# %% [markdown]
# ## Predict
#
# The certificate speaks of the vote under noise, so that is what you deploy. It returns labels,
# or `ABSTAIN`.

# %%
smoothed = phalanx.Smoothed(model, sigma)
print(smoothed.predict(test.images(range(5))))
