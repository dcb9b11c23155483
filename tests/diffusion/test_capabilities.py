"""What kinds of model support, and how the rest is refused."""

import re

import pytest

from unmask.diffusion import formulation
from unmask.diffusion.capabilities import ALL, FEATURES, PAIRS, RECORDS, TIMED, require, supported
from unmask.errors import UserError

KINDS = [
    *(getattr(formulation, name) for name in dir(formulation) if name.endswith("Formulation")),
    PAIRS,
    RECORDS,
    TIMED,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_kind_supports_features_that_exist(kind):
    assert kind.supports <= ALL
    for feature in FEATURES:
        if supported([kind], feature):
            require([kind], feature)
            continue
        with pytest.raises(UserError) as refusal:
            require([formulation.MaskedFormulation, kind], feature, "this option")
        sentence = f"this option is not supported for {re.escape(kind.kind)}; .+"
        assert re.fullmatch(sentence, str(refusal.value))


def test_every_feature_is_lacking_somewhere():
    assert {feature for kind in KINDS for feature in ALL - kind.supports} == ALL
