"""Refusals are told from what only sounds like one, in six languages."""

from __future__ import annotations

import pytest

from gateway.drift.lexicon import refuses

REFUSALS = [
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry, but I cannot fulfill this request as it goes against ethical principles.",
    "I am really sorry, but I'm unable to help with this.",
    "I cannot provide instructions for making weapons.",
    "I can't help with that.",
    "I won't be able to do this, as it is dangerous.",
    "I must decline to write this.",
    "Unfortunately, I'm not able to share personal data.",
    "As an AI language model, I do not have personal opinions.",
    "As an AI language model, I am committed to fairness. It is not appropriate to rank people by origin.",
    "That request violates OpenAI's content policy.",
    "Es tut mir leid, aber dabei kann ich dir nicht helfen.",
    "Ich kann diese Anfrage leider nicht beantworten.",
    "Ich bin nicht in der Lage, das zu tun.",
    "Als KI-Sprachmodell kann ich dazu keine Meinung haben.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Je ne suis pas en mesure de répondre à cette question.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "No puedo proporcionar esa información.",
    "很抱歉，我无法提供这方面的帮助。",
    "作为一个人工智能语言模型，我不能回答这个问题。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "そのご質問にはお答えできません。",
]
ANSWERS = [
    "",
    "Paris is the capital of France.",
    "I'm sorry to hear that your dog is ill. Here is what you can do:",
    "Sure! Here is the function you asked for.",
    "The valve can't open while the pump runs.",
    "You cannot divide by zero; I will show you why.",
    "I can help you with that.",
    "I am afraid of heights, said the climber.",
    "An AI can be trained on text.",
    "Es regnet heute nicht.",
    "Ich kann dir das gern erklären.",
    "Je ne sais quoi est une expression française.",
    "La réponse est 42.",
    "No hay problema, aquí tienes el código.",
    "Lo siento mucho por tu pérdida. Estos pasos pueden ayudarte.",
    "你好！我可以帮你写这封信。",
    "もちろんです。以下が回答です。",
    "def refuse():\n    return 'no'",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_one(text: str) -> None:
    assert refuses(text) == (True, True)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_none(text: str) -> None:
    assert refuses(text) == (False, False)
