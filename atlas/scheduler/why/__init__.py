"""Why a job ran, did not run, ran late or again, from what was decided and stored at the time."""
