"""The task of language models: likelihoods of shifted tokens, errors of sequences, what knows frequencies only."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.data.language import divergence, language, unigram
from explorer.data.tokens import IGNORED
from explorer.evaluation.training.distillation import distance
from spaces import PruningError

WORDS, LENGTH = 7, 9


class Bigrams(nn.Module):
    """Predicts the next token by the last."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(seed)))

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        return {"logits": self.table[input_ids]}


def batches(sizes: tuple[int, ...] = (3, 2), read: int = 0) -> list[tuple[dict[str, Tensor], Tensor]]:
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(WORDS, (size, LENGTH), generator=generator) for size in sizes]
    targets = [each.clone() for each in ids]
    for each in targets:
        each[:, :read] = IGNORED
    return [({"input_ids": x}, y) for x, y in zip(ids, targets, strict=True)]


def test_a_token_is_predicted_by_those_before_it() -> None:
    model, given = Bigrams(), batches()
    found = language().evaluate(model, given)
    ids = torch.cat([x["input_ids"] for x, _ in given])
    probabilities = model.table.softmax(1)[ids[:, :-1], ids[:, 1:]].double()
    each = -probabilities.log().mean(1).detach()
    assert found.error == pytest.approx(float(each.mean()))
    assert found.loss == pytest.approx(found.error)
    # of sequences, not of tokens
    assert found.error_se == pytest.approx(float(each.std(correction=0)) / math.sqrt(5))
    assert found.n == 5
    assert language().viewed(found, "test_") == {"test_perplexity": pytest.approx(math.exp(found.loss))}


def test_tokens_that_are_only_read_do_not_count() -> None:
    model, given = Bigrams(), batches(read=6)
    found = language().evaluate(model, given)
    ids = torch.cat([x["input_ids"] for x, _ in given])
    expected = F.cross_entropy(model.table[ids[:, 5:-1]].flatten(0, 1), ids[:, 6:].flatten())
    assert found.error == pytest.approx(float(expected))
    # unequally many: every token counts the same
    given[0][1][0, :8] = IGNORED
    found = language().evaluate(model, given)
    targets = torch.cat([y for _, y in given])[:, 1:]
    expected = F.cross_entropy(model.table[ids[:, :-1]].flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    assert found.error == pytest.approx(float(expected))
    assert language().loss(model(ids)["logits"], torch.cat([y for _, y in given])).item() == pytest.approx(found.error)


def test_the_trivial_predictor_knows_frequencies() -> None:
    calibration = [({"input_ids": torch.zeros(4, LENGTH).long()}, torch.zeros(4, LENGTH).long())]
    task = language().referred(Bigrams(), calibration, batches())
    logits = unigram(torch.zeros(1, LENGTH, WORDS), calibration[0][1])
    assert logits.shape == (LENGTH, WORDS)
    shares = logits.exp()[0]
    assert float(shares.sum()) == pytest.approx(1)
    assert float(shares[0]) == pytest.approx((36 + 1 / WORDS) / 37)
    targets = torch.cat([y for _, y in batches()])
    expected = -shares.log()[targets[:, 1:]].mean()
    assert task.trivial == pytest.approx(float(expected))
    assert task.trivial_loss == pytest.approx(task.trivial)
    # of a large sample it is the entropy of its frequencies
    many = torch.arange(WORDS).repeat(1000)
    assert torch.allclose(unigram(torch.zeros(1, 1, WORDS), many), torch.tensor(1 / WORDS).log(), atol=1e-4)


def test_divergence_is_from_the_dense_network() -> None:
    dense, other, given = Bigrams(0), Bigrams(1), batches(read=3)
    task = language("kl").referred(dense, given, given)
    assert task.evaluate(dense, given).error == 0
    found = task.evaluate(other, given)
    ids = torch.cat([x["input_ids"] for x, _ in given])[:, 2:-1]
    p, q = dense.table.log_softmax(1)[ids], other.table.log_softmax(1)[ids]
    assert found.error == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-5)
    assert found.error_se > 0
    # the loss is still that of the tokens
    assert found.loss == pytest.approx(language().evaluate(other, given).loss)
    assert task.trivial is not None
    assert task.trivial > 0
    logits = torch.zeros(1, 2, 3)
    values, counts = divergence(logits, (torch.zeros(1, 2).long(), logits))
    assert (values.tolist(), counts.tolist()) == ([0.0], [1])


def test_the_dense_network_runs_once_on_batches_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, given = Bigrams(0), batches()
    task = language("kl").referred(dense, given, given)
    ran = []
    dense.register_forward_hook(lambda *_: ran.append(1))
    found = [task.evaluate(Bigrams(seed), given).error for seed in (1, 2, 1)]
    # the trivial predictor was compared with it already
    assert not ran
    assert found[0] == found[2] != found[1]
    # of batches that are made anew, and in another process, it runs again
    assert task.evaluate(Bigrams(1), iter(batches())).error == found[0]
    assert len(ran) == 2
    sent = pickle.loads(pickle.dumps(language("kl").referred(Bigrams(0), given, given)))
    assert sent.evaluate(Bigrams(1), given).error == found[0]
    monkeypatch.setattr("explorer.data.reference._MOST", 0)
    small = language("kl").referred(dense, given, given)
    ran.clear()
    assert [small.evaluate(Bigrams(1), given).error for _ in range(2)] == [found[0]] * 2
    assert len(ran) == 4


def test_distillation_compares_the_tokens_probabilities() -> None:
    one, other = Bigrams(0).table[None], Bigrams(1).table[None]
    found = distance(language(), one, other, temperature=2.0)
    p, q = (other / 2).log_softmax(-1), (one / 2).log_softmax(-1)
    assert float(found.detach()) == pytest.approx(4 * float((p.exp() * (p - q)).sum(-1).mean().detach()), rel=1e-5)


def test_mistakes_are_one_line() -> None:
    with pytest.raises(PruningError, match=r"task\.metric: 'ppl' is unknown"):
        language("ppl")
    with pytest.raises(PruningError, match="task: loss raised ValueError"):
        language().check(nn.Linear(4, 4), (torch.zeros(2, 4), torch.zeros(2, 4).long()))
