"""Double sampling (DSRS; Li et al. 2022, arXiv 2206.07912): radii from votes under two laws of
noise.

Votes under a second, narrower law say how they are spread over the radius of the noise, which votes
under the first cannot. `laws` names the two, `boxes` turns counts into intervals, `radius` into
certified radii, and `budget` decides beforehand whether the second law is worth its samples.
Numpy and scipy only: nothing here draws a sample.
"""
