# %% [markdown]
# # Compare an ensemble with its members
#
# Does averaging three networks certify more than the best of the three? This page trains three
# small members, certifies them and their ensemble on the same noise, and reads the paired
# comparison. It needs no files and runs in seconds.

# %%
import argparse

import phalanx
from phalanx.runs.statistics import paired_difference
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import train

arguments = argparse.ArgumentParser(description="Compare an ensemble with its members.")
arguments.add_argument("--images", type=int, default=40, help="how many test images")
arguments.add_argument("--n", type=int, default=1000, help="noisy copies of each image")
arguments.add_argument("--epochs", type=int, default=20, help="passes over the training images")
asked = arguments.parse_args()

# %% [markdown]
# ## Three members
#
# The recipe ships with Phalanx. Members differ in their first weights, in the order of the images
# and in the noise they saw; all of it follows from the seed. `out="my-training"` would keep them.

# %%
recipe = load_recipe("digits-gaussian", ["loss.sigma=0.25", f"epochs={asked.epochs}"])
members = train(recipe, workers=1)
print(f"{len(members)} members, trained for sigma {members[0].sigma}")

# %% [markdown]
# ## One pass for everybody
#
# The noise of an image does not depend on who is being certified. So every member sees each noisy
# copy once, and its logits serve the member alone and the ensemble under every reducer.

# %%
test = phalanx.load_data("digits")
chosen = range(0, len(test), max(1, len(test) // asked.images))
res = phalanx.certify(
    members,
    test.images(chosen),
    test.labels(chosen),
    n=asked.n,
    reducers=["mean", "softmax", "vote"],
    each=True,
)
print(res.table())

# %% [markdown]
# ## The paired difference
#
# Two average radii with overlapping intervals may still differ for certain, because both
# classifiers saw the same images and the same noise. What counts is the difference image by
# image. Here: the ensemble minus the member with the largest average radius. That member is
# chosen with these very images, which favours it and makes the comparison a cautious one.


# %%
def radii(name: str) -> list[float]:
    """Certified radius of each image, 0 where the answer is wrong, abstained or in error."""
    return [record.radius or 0.0 if record.correct else 0.0 for record in res.of(name)]


average = {name: sum(radii(name)) / len(radii(name)) for name in res.classifiers}
best = max((name for name in average if name.startswith("member")), key=lambda name: average[name])
difference, (low, high) = paired_difference(radii("mean"), radii(best))
print(f"mean minus {best}: {difference:+.4f} [{low:+.4f}, {high:+.4f}] (95%, over images)")
