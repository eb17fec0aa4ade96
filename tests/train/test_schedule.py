"""Lengths, learning rates and averaging of the phases."""

import pytest

from harmose.train.schedule import JointPhase, Phase, Schedule, Stage1Phase, Stage2Phase, steps_per_epoch


def test_the_rate_rises_and_falls_to_zero():
    phase = Phase(learning_rate=1e-2, warmup=10)
    assert phase.rate(0, 0.0) == pytest.approx(1e-3)
    assert phase.rate(9, 0.0) == pytest.approx(1e-2)
    assert phase.rate(500, 0.5) == pytest.approx(5e-3)
    assert phase.rate(999, 1.0) == pytest.approx(0, abs=1e-12)
    assert phase.rate(999, 1.2) == pytest.approx(0, abs=1e-12)


def test_steps_before_epochs_before_share():
    assert Phase(share=1.0).n_steps(100) is None
    assert Phase(share=1.0, epochs=2.5).n_steps(11) == 28
    assert Phase(share=1.0, epochs=3, steps=7).n_steps(100) == 7
    assert steps_per_epoch(3, 10) == 1
    assert [p.is_on for p in (Phase(), Phase(share=0.1), Phase(share=0.5, steps=0), Phase(epochs=1))] == [
        False,
        True,
        False,
        True,
    ]


def test_the_time_is_shared_by_the_phases_to_come():
    schedule = Schedule(stage1=Stage1Phase(share=0.6), stage2=Stage2Phase(share=0.3), joint=JointPhase(share=0.1))
    assert schedule.active == ("stage1", "stage2", "joint")
    assert schedule.budget("stage1", 100.0) == pytest.approx(60)
    # stage 1 ended early: what it left is shared 3 : 1
    assert schedule.budget("stage2", 80.0) == pytest.approx(60)
    assert schedule.budget("joint", 20.0) == pytest.approx(20)
    assert Schedule(stage1=Stage1Phase(share=1.0), stage2=Stage2Phase(share=0.0)).active == ("stage1",)


def test_averaging_begins_free_and_reaches_its_decay():
    phase = Phase(ema_decay=0.99)
    assert phase.averaging(0) == phase.averaging(100) == 0
    decays = [phase.averaging(k) for k in range(100, 5000)]
    assert decays == sorted(decays)
    assert decays[-1] == 0.99
