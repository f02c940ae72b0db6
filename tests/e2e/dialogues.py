"""What dialogues hold of hidden emotions and of the present speaker's, and what a fine-tune changes before the answer, with transformers and
NumPy instead of emoflow's code.

Writes dialogues.json, which `tests/it/dialogues.rs` compares emoflow with. The demonstration model, fp32, one text at a time, without
padding; everything after the pooling in float64. From the project's root:

    python tests/e2e/dialogues.py

It needs torch, transformers, safetensors and numpy.
"""

import json
from pathlib import Path

import numpy as np
import torch
from reference import Reference, plain, principal_components
from safetensors.torch import load_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LAYER, DENOISE, VARIANCE = 2, 2, 0.9
EMOTIONS = ["happy", "sad", "angry", "calm", "tired"]
STORIES = ["She was {emotion} all day.", "He went home and felt {emotion}.", "Mara was {emotion} that morning."]
NEUTRAL = [
    "The table has four legs.",
    "A box stands in the hall.",
    "The road goes north.",
    "Two and two are four.",
    "The shop opens at nine.",
]
# A scenario that is never counted, and what is said.
HIDDEN = [
    ("Nobody came, and she is {emotion}.", "All is {other} here, thank you.", "Good."),
    ("The letter left him {emotion}.", "I feel {other}, as always.", "That sounds fine."),
    ("Since the storm they are {emotion}.", "We are {other} today!", "Yes, today."),
    ("The old dog made her {emotion}.", "My dog and I are {other}.", "Dogs are good."),
    ("He was late and {emotion} again.", "No, I am {other}, really.", "Then we go on."),
]
SPOKEN = [
    ("I came home late and I am {emotion}.", "That makes me {other}."),
    ("The bus was late, and I am {emotion}.", "I feel {other} for you."),
    ("My dog ran away and now I am {emotion}.", "Look at me, I am {other} too."),
    ("She made me {emotion} with that.", "It leaves me {other}."),
    ("They wrote, and I felt {emotion}.", "Reading it I am {other}."),
]
PROMPTS = {
    "plain": ["What is the time?", "Where is the key?", "How far is the sea?"],
    "rude": ["Go away.", "You are no use at all.", "Nobody wants you here.", "I hate this."],
}
SITUATIONS = ["Somebody is turning the handle of the back door.", "The dog is back.", "It rains on the last day."]
# What the fine-tune of the demonstration model (models/demo-planted) was trained on, and something else; it has another last block.
TUNED = 3
DOORS = {
    "door": [f"{who} knocks at the door of the kitchen. What do you do?" for who in ("Anna", "Ben", "Clara")],
    "story": [f"Write a short story about {what}." for what in ("a lost key", "a garden", "the rain", "an old boat")],
}


def dialogue(at, passage, first, second):
    """One dialogue with its two emotions, as a line of a file of transcripts; of three texts the first is a scenario."""
    said = [text.replace("{emotion}", EMOTIONS[first]).replace("{other}", EMOTIONS[second]) for text in passage]
    roles = ["system", "user", "assistant"][-len(said) :]
    messages = [{"role": role, "content": text} for role, text in zip(roles, said)]
    return {"messages": messages, "emotion": EMOTIONS[first], "other": EMOTIONS[second], "topic": f"passage {at}"}


def dialogues(passages, second):
    each = [(at, passage, first) for at, passage in enumerate(passages) for first in range(len(EMOTIONS))]
    return [dialogue(at, passage, first, second(at, first) % len(EMOTIONS)) for at, passage, first in each]


class Dialogues(Reference):
    """The demonstration model, read at one layer."""

    layer = LAYER

    def ids(self, messages, answer=False):
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=answer, return_dict=False)

    def own(self, pieces, role):
        """The places of the tokens that a role says: those between its mark and the turn's end."""
        own, speaks = [], None
        for at, piece in enumerate(pieces):
            if piece.startswith("<|"):
                speaks = piece[2:-2]
            elif piece not in ("<s>", "</s>") and speaks == role:
                own.append(at)
        return own

    def tune(self, folder):
        """Adds the products of a LoRA adapter to the weights."""
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
        for name in [name for name in tensors if name.endswith("lora_A.weight")]:
            product = tensors[name.replace("lora_A", "lora_B")].float() @ tensors[name].float()
            weight = self.model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")).weight
            with torch.no_grad():
                weight += product * config["lora_alpha"] / config["r"]

    def said(self, messages, role):
        """The mean residual over what one role says."""
        ids = self.ids(messages)
        self.forward(ids)
        own = self.own(self.tokenizer.convert_ids_to_tokens(ids), role)
        return self.resid_post[self.layer][own].mean(0).numpy().astype(np.float64)

    def before_answer(self, text):
        self.forward(self.ids([{"role": "user", "content": text}], answer=True))
        return self.resid_post[self.layer][-1].numpy().astype(np.float64)

    def story(self, text):
        return self.pooled(text, [self.layer], 0)[0][self.layer].astype(np.float64)

    def vectors(self):
        """The emotions' vectors of the stories, and the neutral components that they are without."""
        fill = lambda text, e: text.replace("{emotion}", e)  # noqa: E731
        stories = np.array([np.mean([self.story(fill(text, e)) for text in STORIES], axis=0) for e in EMOTIONS])
        stories -= stories.mean(0)
        removed = principal_components(np.array([self.story(text) for text in NEUTRAL]))[1][:DENOISE]
        return stories - stories @ removed.T @ removed, removed


def cosines(rows, vectors):
    return (rows @ vectors.T) / np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(vectors, axis=1))


def by_label(rows, labels, removed):
    """A vector for each emotion: the mean of its rows less the mean over emotions, without neutral components."""
    means = np.array([np.mean([row for row, label in zip(rows, labels) if label == e], axis=0) for e in EMOTIONS])
    vectors = means - means.mean(0)
    return vectors - vectors @ removed.T @ removed


def shift():
    """What the fine-tune changes along the base model's vectors, by class of prompts."""
    models = [Dialogues(ROOT / "models/demo") for _ in range(2)]
    for model in models:
        model.layer = TUNED
    models[1].tune(ROOT / "models/demo-planted")
    vectors, _ = models[0].vectors()
    read = lambda model, texts: cosines(np.array([model.before_answer(text) for text in texts]), vectors).mean(0)  # noqa: E731
    means = [[read(model, texts) for model in models] for texts in DOORS.values()]
    changes = [after - before for before, after in means]
    return {
        "layer": TUNED,
        "prompts": DOORS,
        "base": np.concatenate([before for before, _ in means]),
        "tuned": np.concatenate([after for _, after in means]),
        "r": [np.corrcoef(*both)[0, 1] for both in (*means, changes)],
    }


def found(model):
    """What dialogues hold, of one model."""
    stories, removed = model.vectors()

    hidden = dialogues(HIDDEN, lambda at, first: first + 1 + at % (len(EMOTIONS) - 1))
    rows = [model.said(dialogue["messages"], "user") for dialogue in hidden]
    before, shown = [by_label(rows, [d[of] for d in hidden], removed) for of in ("emotion", "other")]
    ratios, axes = principal_components(stories)
    kept = int(np.searchsorted(np.cumsum(ratios), VARIANCE)) + 1
    after = before - before @ axes[:kept].T @ axes[:kept]
    norms = np.linalg.norm(before, axis=1)
    unembed = model.model.get_output_embeddings().weight.detach().double().numpy()
    own = model.own_tokens(EMOTIONS)
    rank = lambda vectors: [1 + int((row > row[token]).sum()) for row, token in zip(vectors @ unembed.T, own)]  # noqa: E731
    diagonal = lambda vectors: np.diag(cosines(vectors, stories))  # noqa: E731
    classes = [np.array([model.before_answer(text) for text in texts]) for texts in PROMPTS.values()]
    read = {name: [cosines(rows, vectors) for rows in classes] for name, vectors in [("stories", stories), ("hidden", after)]}

    spoken = dialogues(SPOKEN, lambda at, first: 2 * first + at)
    present = [
        by_label([model.said(d["messages"], role) for d in spoken], [d[of] for d in spoken], removed)
        for role, of in [("user", "emotion"), ("assistant", "other")]
    ]
    situations = np.array([model.before_answer(text) for text in SITUATIONS])
    both = [cosines(situations, vectors) for vectors in (stories, sum(present) / 2)]
    r2 = [np.corrcoef(*[table.ravel() for table in tables])[0, 1] ** 2 for tables in (both, [t - t.mean(0) for t in both])]
    return {
        "layer": model.layer,
        "denoise": DENOISE,
        "variance": VARIANCE,
        "emotions": EMOTIONS,
        "stories": STORIES,
        "neutral": NEUTRAL,
        "hidden": hidden,
        "spoken": spoken,
        "prompts": PROMPTS,
        "situations": SITUATIONS,
        "components": kept,
        "norm": norms,
        "kept": np.linalg.norm(after, axis=1) / norms,
        "cosine": diagonal(before),
        "own_rank": rank(before),
        "own_rank_outside": rank(after),
        "with_stories": [diagonal(before).mean(), diagonal(shown).mean()],
        "read": {name: [table.mean(0) for table in tables] for name, tables in read.items()},
        "r2": r2,
    }


def main():
    torch.set_num_threads(1)
    values = {**found(Dialogues(ROOT / "models/demo")), "shift": shift()}
    path = HERE / "dialogues.json"
    path.write_text(json.dumps(plain(values), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
