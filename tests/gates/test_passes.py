"""Gates belong to their pass, however often and in whatever order its layers run."""

import copy
import gc
import weakref

import pytest
import torch
import transformers
from torch import nn
from torch.utils.checkpoint import checkpoint

import headcount as hc
from cases import TINY, batch, clip

RELAXED = hc.DSP(estimator=hc.RelaxedTopK())
RUNS = {
    "hard concrete": (hc.HardConcrete(), hc.Budget(heads=5, neurons=40)),
    "layer drop": (hc.LayerDrop(drop=0.5), hc.Budget(layers=2)),
    "relaxed": (RELAXED, hc.Budget(heads=5)),
}


def bert():
    config = transformers.BertConfig(**TINY, attn_implementation="eager")
    torch.manual_seed(0)
    return transformers.BertModel(config).train()


BERT = bert()
X, Y = batch(), batch(4, 6)


def checkpointed(model, reentrant):
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": reentrant})


def grads(run, name, way):
    """Gradients of weights and logits of a loss; layers run again in one of two ways, or do not."""
    method, budget = RUNS[name]
    model = copy.deepcopy(BERT)
    if way in (True, False):
        checkpointed(model, way)
    with hc.attach(model, method, budget, num_steps=10, seed=3) as session:
        torch.manual_seed(1)
        run(model, session, way)
        learnt = [*session.parameters()]
        return [p.grad for p in (*model.parameters(), *learnt) if p.grad is not None]


def hidden(model, inputs):
    return model(**inputs).last_hidden_state


def two_passes(model, session, way):
    del session, way
    (hidden(model, X) - hidden(model, X)).square().mean().backward()


def evaluation_between(model, session, way):
    del session, way
    loss = hidden(model, X).square().mean()
    with torch.no_grad():
        hidden(model.eval(), Y)
    hidden(model, Y)  # evaluation with gradients
    model.train()
    hidden(model, Y)  # whose gradient nobody asks for
    loss.backward()


def one_backward_after_the_other(model, session, way):
    """The later pass first; the penalty has a gradient of its own."""
    del way
    first, second = hidden(model, X).std(), hidden(model, Y).std() + session.penalty()
    second.backward()
    hidden(model, Y).std().backward()
    first.backward()


def a_part_by_itself(model, session, way):
    del session, way
    x = model.embeddings(X["input_ids"])
    first = model.encoder(x).last_hidden_state
    alone = model.encoder.layer[1](x)
    second = model.encoder(x).last_hidden_state
    (first - second + (alone[0] if isinstance(alone, tuple) else alone)).std().backward()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    "run", [two_passes, evaluation_between, one_backward_after_the_other, a_part_by_itself]
)
def test_layers_that_run_again_have_the_gates_of_their_pass(run, reentrant, name):
    plain, again = grads(run, name, None), grads(run, name, reentrant)
    assert len(plain) == len(again)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def whole(model, inputs, way):
    """The model as one region that runs again."""
    if way is None:
        return hidden(model, inputs)
    embedded = model.embeddings.word_embeddings(inputs["input_ids"])
    mask = inputs["attention_mask"]
    call = lambda x: model(inputs_embeds=x, attention_mask=mask).last_hidden_state  # noqa: E731
    return checkpoint(call, embedded, use_reentrant=way == "old")


def whole_models(model, session, way):
    del session
    (whole(model, X, way) - whole(model, X, way)).square().mean().backward()


def checkpointing_layer(layer, reentrant):
    plain = layer.forward
    layer.forward = lambda x, *rest, **named: checkpoint(plain, x, use_reentrant=reentrant)


def nested(model, session, way):
    """Regions in regions; those around are of the other kind than those inside."""
    del session
    if way is not None:
        for layer in model.encoder.layer:
            checkpointing_layer(layer, way == "new")
    passes = []
    for _ in range(2):
        x = model.embeddings(X["input_ids"])
        if way is None:
            passes.append(model.encoder(x)[0])
        else:
            call = lambda x: model.encoder(x)[0]  # noqa: E731
            passes.append(checkpoint(call, x, use_reentrant=way == "old"))
    (passes[0] - passes[1]).square().mean().backward()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("way", ["old", "new"])
@pytest.mark.parametrize("run", [whole_models, nested])
def test_a_model_that_runs_again_as_a_whole_has_the_gates_of_its_pass(run, way, name):
    plain, again = grads(run, name, None), grads(run, name, way)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_the_towers_of_a_model_have_gates_of_their_own_passes():
    images = torch.rand(2, 3, 8, 8)
    found = []
    for way in (None, False, True):
        torch.manual_seed(0)
        model = clip().train()
        images = torch.rand(2, 3, *[model.config.vision_config.image_size] * 2)
        ids = torch.arange(2, 12).view(2, 5)
        if way is not None:
            checkpointed(model, way)
        with hc.attach(model, hc.HardConcrete(), hc.Budget(heads=8), num_steps=9, seed=3) as s:
            texts = model.get_text_features(input_ids=ids)
            pictures = model.get_image_features(pixel_values=images)
            both = [getattr(out, "pooler_output", out) for out in (texts, pictures)]
            (both[0] @ both[1].T).square().sum().backward()
            found.append([p.grad for p in (*model.parameters(), *s.parameters())])
    for again in found[1:]:
        for one, other in zip(found[0], again, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_frozen_weights_and_layers_that_run_again(reentrant):
    """The logits alone learn: no input of a layer has a gradient by itself."""
    found = []
    for way in (None, reentrant):
        model = copy.deepcopy(BERT)
        if way is not None:
            checkpointed(model, way)
        method = hc.DSP(training="pipelined", estimator=hc.RelaxedTopK())
        with hc.attach(model, method, hc.Budget(heads=5), num_steps=9, seed=3) as session:
            torch.manual_seed(1)
            two_passes(model, session, way)
            found.append(next(session.parameters()).grad)
            assert all(p.grad is None for p in model.parameters())
        assert all(p.requires_grad for p in model.parameters())
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-5)


class Wrapper(nn.Module):
    """Calls the inner model, and is itself asked by ``forward``, as sentence encoders are."""

    def __init__(self, inner):
        super().__init__()
        self.parts = nn.Sequential(inner)

    def forward(self, inputs):
        return self.parts[0](**inputs)[0]


def test_what_is_called_past_the_model_has_the_gates_of_the_moment():
    model = Wrapper(bert())
    with hc.attach(model, RELAXED, hc.Budget(heads=5), num_steps=4) as session:
        model(X)  # leaves soft gates behind
        model.eval()
        for call in (
            lambda: model.forward(X),
            lambda: model.parts[0].encoder.layer[0](torch.rand(1, 2, 24)),
            lambda: model.parts[0].encoder.layer[1].attention.output.dense(torch.rand(1, 2, 24)),
        ):
            session.gates.value = None
            call()
            assert torch.equal(session.gates.value.bool(), session.keep())


@pytest.mark.parametrize("checkpointing", [None, False, True])
def test_gates_go_when_their_graph_does(checkpointing):
    model = bert()
    if checkpointing is not None:
        checkpointed(model, checkpointing)
    with hc.attach(model, hc.HardConcrete(), hc.Budget(heads=5), num_steps=4) as session:
        draw, drawn = session.draw, []
        session.draw = lambda: keep_a_reference(draw(), drawn)
        for _ in range(3):
            hidden(model, X).sum().backward()
        hidden(model, X).sum()
        hidden(model, X)
    gc.disable()  # nothing waits for the collector of cycles
    try:
        assert [gates() is None for gates in drawn[:-1]] == [True] * 4
    finally:
        gc.enable()


def keep_a_reference(gates, drawn):
    kept = gates.to(torch.float32)
    drawn.append(weakref.ref(kept))
    return kept


class Cached:
    """Embeds parts without gradients, then each again with them, as GradCache does."""

    def __init__(self, model, parts):
        self.model, self.parts = model, parts

    def backward(self, plain, inside):
        if plain:
            return self.loss([hidden(self.model, part) for part in self.parts]).backward()
        states, first = [], []
        for part in self.parts:
            states.append(torch.get_rng_state())
            with torch.no_grad():
                first.append(hidden(self.model, part))
        leaves = [out.requires_grad_() for out in first]
        loss = self.loss(leaves)
        if inside:
            loss.register_hook(lambda _: self.again(states, leaves, loss))
            return loss.backward()
        loss.backward()
        return self.again(states, leaves, None)

    def again(self, states, leaves, loss):
        cached = [leaf.grad for leaf in leaves]
        if loss is not None:
            with torch.enable_grad():
                cached = torch.autograd.grad(self.loss(leaves), leaves)
        for part, state, grad in zip(self.parts, states, cached, strict=True):
            with torch.enable_grad(), torch.random.fork_rng([]):
                torch.set_rng_state(state)
                (hidden(self.model, part) * grad).sum().backward()

    @staticmethod
    def loss(outputs):
        vectors = torch.cat([out.mean(1) for out in outputs])
        return (vectors @ vectors.T).square().mean()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("inside", [False, True])
def test_a_pass_that_is_run_without_gradients_first_has_the_same_gates_with_them(inside, name):
    def run(model, session, way):
        del session
        Cached(model, [X, Y, X]).backward(plain=way is None, inside=inside)

    plain, again = grads(run, name, None), grads(run, name, "cached")
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
