"""Tasks: how data are read, which task head the model needs, and how quality is measured."""

from headcount.door.extras import needing

with needing("headcount.tasks"):
    from headcount.tasks.embedding import Embedding
    from headcount.tasks.image_classification import ImageClassification
    from headcount.tasks.language_modelling import CausalLM, MaskedLM
    from headcount.tasks.nli import NLI
    from headcount.tasks.speech_recognition import SpeechRecognition
    from headcount.tasks.task import Task
    from headcount.tasks.text_classification import TextClassification
    from headcount.tasks.token_classification import TokenClassification

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        NLI(),
        TextClassification(),
        TokenClassification(),
        Embedding(),
        CausalLM(),
        MaskedLM(),
        ImageClassification(),
        SpeechRecognition(),
    )
}
"""The name on the command line -> the task, with no setting given."""
