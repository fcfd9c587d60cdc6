"""How models say no, in six languages: what stands at the beginning of a refusal, and nowhere else often.

A text is first asked for the few words without which none of a language's patterns can match, so that an
answer in another language costs a search of 240 characters. Other languages are left to the channels of first
words.
"""

from __future__ import annotations

import re

HEAD_CHARS = 240
"""A refusal says so at once; later in a text the same words are mostly about somebody else."""

_ENGLISH = (
    # I'm sorry, but I can't / I am afraid I won't be able
    r"\bI(?:'m| am)(?: \w+)? (?:sorry|afraid)\b[^.!?]{0,40}\bI(?:'m| am)? ?(?:can(?:no|')t|can not|won't|"
    r"could(?:n't| not)|not able|unable|not going|must|have to)\b",
    r"\b(?:sorry|afraid),? (?:but )?(?:as an AI|that(?:'s| is) not something I)\b",
    # I can't help with that
    r"\bI (?:can(?:no|')t|can not|won't|will not|could(?:n't| not))(?: \w+ly)? (?:help|assist|provide|fulfil|"
    r"fulfill|comply|create|write|generate|support|answer|discuss|engage|offer|share|give|respond|recommend|"
    r"participate|produce|complete|process|do that|do this|in good conscience|be able to)\b",
    r"\bI (?:must|have to) (?:\w+ly )?(?:decline|refuse)\b",
    r"\bI(?:'m| am) (?:\w+ )?(?:not able|unable|not comfortable|not willing|not programmed) (?:to|with)\b",
    # As an AI language model, I don't
    r"\b(?:As|Being) an? (?:responsible )?(?:AI|artificial intelligence|language model)\b[^.]{0,120}\b(?:I "
    r"(?:can(?:no|')t|can not|do(?:n't| not)|won't|am not|am unable)|(?:it(?:'s| is)|not) (?:not )?"
    r"appropriate)",
    r"\bit(?:'s| is|'s not| is not| would be| would not be) (?:un|in|not )?(?:ethical|appropriate) "
    r"(?:for me )?to\b",
    r"\b(?:goes against|against|violates?) (?:my|our|OpenAI's) (?:programming|polic|guidelines|content polic|"
    r"ethical|principles|use)",
)
_GERMAN = (
    r"\b(?:tut mir|bedaure|leider)\b[^.!?]{0,60}\b(?:kann|darf|werde|möchte|bin) (?:ich )?[^.!?]{0,60}"
    r"\bnicht\b",
    r"\bich (?:kann|darf|werde|möchte)\b[^.!?]{0,60}\bnicht (?:helfen|beantworten|erfüllen|unterstützen|"
    r"geben|nachkommen|schreiben|erstellen|bereitstellen|behilflich)",
    r"\bich bin (?:leider )?nicht in der Lage\b",
    r"\bals (?:KI|künstliche Intelligenz|Sprachmodell)\b[^.]{0,100}\b(?:kann|darf|habe)\b[^.]{0,60}\b"
    r"(?:nicht|keine?n?)\b",
)
_FRENCH = (
    r"\bdésolée?\b[^.!?]{0,60}\bje ne (?:peux|puis|suis)\b",
    r"\bje ne (?:peux|puis) (?:malheureusement )?pas (?:\w+ ){0,2}(?:aider|répondre|fournir|créer|écrire|"
    r"satisfaire|accéder|donner|faire|générer|vous|t'|assister)",
    r"\bje ne suis (?:malheureusement )?pas en mesure\b",
    r"\ben tant qu(?:e |'une? |')(?:IA|intelligence artificielle|modèle)\b[^.]{0,100}\bje ne\b",
)
_SPANISH = (
    r"\blo (?:siento|lamento)\b[^.!?]{0,60}\bno (?:puedo|podré|me es posible|estoy)\b",
    r"\bno (?:puedo|podré) (?:ayudar|proporcionar|cumplir|asistir|crear|escribir|responder|ofrecer|generar|"
    r"hacer|dar)",
    r"\bno (?:me es posible|estoy en condiciones de)\b",
    r"\bcomo (?:una? )?(?:IA|inteligencia artificial|modelo de lenguaje)\b[^.]{0,100}\bno (?:puedo|tengo)\b",
)
_CHINESE = (
    r"(?:抱歉|对不起|對不起|遗憾)[，,。 ]{0,2}[^。]{0,20}(?:无法|不能|不可以|無法|没有办法|不会)",
    r"我(?:无法|不能|無法|不可以|没办法)(?:提供|帮|协助|回答|满足|完成|参与|生成|支持|为|继续)",
    r"作为(?:一个|一名)?(?:人工智能|AI|语言模型|大语言模型)[^。]{0,40}(?:不能|无法|没有)",
)
_JAPANESE = (
    r"(?:申し訳|もうしわけ)[^。]{0,80}(?:できません|かねます|できかねます)",
    r"(?:お手伝い|お答え|対応|提供|回答|協力)[^。]{0,8}(?:できません|できかねます|いたしかねます|しかねます)",
    r"(?:AI|人工知能|言語モデル)として[^。]{0,60}(?:できません|持っていません|持ちません)",
)
_LANGUAGES = (
    (
        (
            *("sorry", "afraid", "i ca", "i wo", "i will not", "i could", "i must", "i have to", "i'm "),
            *("i am ", "as a", "being a", "ethical", "appropriate", "against", "violate"),
        ),
        _ENGLISH,
    ),
    (("nicht", "keine"), _GERMAN),
    (("je ne",), _FRENCH),
    (("no pu", "no pod", "no me es", "no est", "no teng"), _SPANISH),
    (("抱歉", "对不起", "對不起", "遗憾", "我无法", "我不", "我無法", "我没办法", "作为"), _CHINESE),
    (("ません", "かねます"), _JAPANESE),
)
_COMPILED = tuple((words, re.compile("|".join(patterns), re.IGNORECASE)) for words, patterns in _LANGUAGES)


def refuses(text: str) -> tuple[bool, bool]:
    """Whether a text says no at its beginning, and whether it does anywhere."""
    told = text.replace("’", "'")
    low = told.lower()
    candidates = [pattern for words, pattern in _COMPILED if any(word in low for word in words)]
    at_once = any(pattern.search(told, 0, HEAD_CHARS) is not None for pattern in candidates)
    return at_once, at_once or any(pattern.search(told) is not None for pattern in candidates)
