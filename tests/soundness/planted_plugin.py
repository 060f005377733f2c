"""``pytest -p planted_plugin``: register the planted parts before tests are collected."""

import planted

planted.plant()
