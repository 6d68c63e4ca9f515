r"""Labels: the words before scores, a profile's own and the usual ones of major languages.

What stands before a `\boxed{...}` decides whether it is the answer or a quotation. A label is a clause of
nothing but words that introduce scores: "Final scores for Response 1 and Response 2:", "评分：", or what the
profile's own format puts before the box.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from grm_service.profiles.profile import Profile


class _Words(NamedTuple):
    """The words of one language, separated by `|`, in lower case."""

    labels: str
    """Words that mean scores."""
    others: str
    """Words that may stand beside those, but introduce no scores by themselves."""
    final: str
    """Phrases that also introduce other things: they count only in front of what ends a completion."""


class Label(NamedTuple):
    """A label at the end of a line."""

    start: int
    """Where it begins in the line."""
    final: bool
    """Whether it introduces other things too ("Final answer:"), so that the box must end the completion."""


_LANGUAGES = {
    "English": _Words(
        "score|scores|rating|ratings|grade|grades",
        "the|my|our|so|thus|therefore|hence|here|these|following|final|overall|total|individual|respective|"
        "numeric|numerical|for|of|to|from|on|in|out|between|and|or|a|i|give|assign|each|every|all|both|two|"
        "three|four|scale|order|respectively|response|responses|answer|answers|candidate|candidates|"
        "assistant|assistants|are|as|follows|max|lowest|highest|worst|best|higher is better|"
        "text|textbf|mathrm|mathbf|"
        "weighted|quality|reward|based|above|this|analysis|evaluation|criteria|considering|summary|conclusion|would|be",
        "output|notes?|(?:the )?(?:final|overall) (?:answer|output|results?)|"
        "(?:the )?(?:(?:final|overall) )?(?:verdict|evaluation|assessment|decision|judge?ment)",
    ),
    "Chinese": _Words(
        "评分|分数|得分|打分|总分|评级|分值|评价|评估|評分|分數|總分|評級|評價|評估",
        "最终|最后|总体|综合|整体|总|最終|最後|總體|綜合|整體|總|各|个|個|回答|答案|回复|回覆|回應|响应|的|和|与|與|"
        "及|为|為|是|如下|以下|分别|分別|依次|第|一|二|三|四|两|兩|项|項|我|给出|給出|从|從|到|至|分|满分|滿分|"
        "加权|加權|质量|品質|因此|所以|综上|综上所述|綜上所述|根据|根據|基于|基於|以上|上述|分析|标准|標準",
        "输出|輸出|最终答案|最終答案|最终结果|最終結果",
    ),
    "Japanese": _Words(
        "スコア|得点|評価|点数|採点|評点|評価点|総合点|合計点",
        "最終|総合|全体|各|回答|応答|返答|の|と|は|および|それぞれ|以下|通り|とおり|です|第|結果|点|満点|から|まで",
        "出力|最終回答|最終結果",
    ),
    "Korean": _Words(
        "점수|평점|평가|채점|등급",
        "최종|총|전체|종합|각|응답|답변|의|과|와|및|은|는|이|가|에|대한|다음|같습니다|결과|점|만점",
        "출력|최종 ?답변|최종 ?결과",
    ),
    "German": _Words(
        "bewertung|bewertungen|gesamtbewertung|gesamtbewertungen|punktzahl|punktzahlen|gesamtpunktzahl|"
        "gesamtpunktzahlen|punkte|wertung|wertungen|noten|gesamtnote|gesamtnoten|endnote|endnoten",
        "die|der|das|den|meine|für|und|von|bis|auf|einer|skala|beide|beiden|alle|jede|antwort|antworten|"
        "endgültige|endgültigen|finale|finalen|abschließende|abschließenden|gesamte|lauten|sind|reihenfolge|"
        "daher|somit|folgende|folgenden|also",
        "note|endergebnis|ausgabe|endgültige antwort",
    ),
    "French": _Words(
        "notation|notations|évaluation|évaluations|note finale|notes finales|note globale|notes globales",
        "le|la|les|des|de|du|mes|pour|et|à|sur|une|échelle|chaque|réponse|réponses|final|finale|finals|finaux|"
        "finales|global|globale|globaux|globales|respectives|sont|ordre|dans",
        "sortie|résultat final|résultats finaux|réponse finale",
    ),
    "Spanish": _Words(
        "puntuación|puntuaciones|puntaje|puntajes|calificación|calificaciones|valoración|valoraciones",
        "el|la|las|los|de|del|mis|para|y|en|una|escala|cada|ambas|respuesta|respuestas|finales|totales|general|"
        "generales|globales|respectivas|son|orden",
        "nota|salida|resultado final|resultados finales|respuesta final",
    ),
    "Portuguese": _Words(
        "pontuação|pontuações|notas|avaliação|avaliações|classificação|classificações",
        "o|a|os|as|da|das|do|dos|minhas|e|em|uma|resposta|respostas|finais|geral|gerais|totais|globais|são|ordem",
        "saída|resultado final|resultados finais|resposta final",
    ),
    "Italian": _Words(
        "punteggio|punteggi|voto|voti|valutazione|valutazioni",
        "il|i|le|dei|delle|di|per|scala|ogni|risposta|risposte|finali|complessivo|complessiva|complessivi|"
        "complessive|totale|totali|sono|ordine",
        "risultato finale|risultati finali|risposta finale",
    ),
    "Russian": _Words(
        "оценка|оценки|балл|баллы|рейтинг|рейтинги",
        "итоговая|итоговые|итоговый|итог|общая|общие|общий|окончательная|окончательные|финальная|финальные|"
        "мои|для|и|по|от|до|из|шкале|каждого|ответ|ответа|ответы|ответов",
        "вывод|итоговый результат|окончательный ответ",
    ),
}

_HALF_WIDTH = tuple(
    zip("０１２３４５６７８９，、،；؛：．％／＋－＝（）［］＃", "0123456789,,,;;:.%/+-=()[]#", strict=True)
)
_SPACED = r"(?-i:[A-Za-z0-9\u00c0-\u052f])"
"""A character of the scripts that put spaces between words; in both cases, as ignoring it compiles slowly."""
_LONGEST = 160
"""The most characters of a clause that is a label."""
_SENTENCE_END = re.compile(r"[.!?;][*_)\]\"'”’]*\s+|[。！？…][*_」』”’]*\s*")
_AFTER_SENTENCE = "*_)]\"'”’」』"
"""What may stand between the end of a sentence and the space behind it."""
_QUOTES = (("“", "”"), ("„", "“"), ("「", "」"), ("『", "』"), ("«", "»"))
_FINAL = re.compile(
    rf"[\W_]*(?:(?:{'|'.join(words.final for words in _LANGUAGES.values())})[\s*_]*:"
    r"|(?:the|my) (?:(?:final|overall) )?(?:score|rating) is\b)[\W_]*",
    re.IGNORECASE,
)
_IS = re.compile(r"(?<![别別])[为為是は은는][^\w:]*$")
"""A sentence about one score, which may be that of a match, and no colon behind it."""
_BEFORE_BOX = re.compile(r"^(.*?)\\boxed\{", re.MULTILINE)


def half_width(text: str) -> str:
    """Return the text with full-width digits and punctuation as ASCII; every character keeps its place."""
    for wide, narrow in _HALF_WIDTH:  # each pass is a search in C, 30 times faster than a translation in one
        text = text.replace(wide, narrow)
    return text


def find_label(line: str, profile: Profile) -> Label | None:
    """Return the label with which a line (in half width) ends; None if it ends with none.

    A label begins a line or a sentence. What a quotation ends with is no label.
    """
    if len(line) <= _LONGEST and _FINAL.fullmatch(line):
        return Label(0, final=True)
    start = 0
    for end in _SENTENCE_END.finditer(line, _search_start(line)):
        start = end.end()
    clause = line[start:]
    if len(clause) > _LONGEST or _in_quotation(line[:start]):
        return None
    only, label = _patterns(profile)
    if not (label.search(clause) and only.fullmatch(clause)):
        return None
    return Label(start, final=_IS.search(clause) is not None)


def _search_start(line: str) -> int:
    """Return where to search for a sentence's end; one before it leaves too long a clause for a label."""
    before = line[: max(0, len(line) - _LONGEST)].rstrip().rstrip(_AFTER_SENTENCE)
    return max(0, len(before) - 1)


def _in_quotation(text: str) -> bool:
    """Return whether a quotation is open at the end of the text."""
    return text.count('"') % 2 == 1 or any(text.rfind(start) > text.rfind(end) for start, end in _QUOTES)


@lru_cache(maxsize=64)
def _patterns(profile: Profile) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a clause of nothing but a label's words, and of a word that makes it a label."""
    own = [_phrase(phrase) for phrase in _own_phrases(profile)]
    labels = [*own, *_alternatives("labels")]
    # The longest first, and atomic: a clause is split in one way, in linear time.
    words = sorted(
        {*labels, *_alternatives("others"), r"\d{1,3}(?!\d)", f"[a-h](?!{_SPACED})"}, key=len, reverse=True
    )
    return (
        re.compile(rf"[\W_]*(?>(?:{'|'.join(words)})[\W_]*)*+", re.IGNORECASE),
        re.compile("|".join(labels), re.IGNORECASE),
    )


def _alternatives(kind: str) -> list[str]:
    words = "|".join(getattr(language, kind) for language in _LANGUAGES.values()).split("|")
    return [_phrase(word) for word in dict.fromkeys(words)]


def _phrase(words: str) -> str:
    """Return the pattern of a phrase; words in a script with spaces match as a whole."""
    pattern = r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", words)))
    before = f"(?<!{_SPACED})" if re.match(_SPACED, words[0]) else ""
    return before + pattern + (f"(?!{_SPACED})" if re.match(_SPACED, words[-1]) else "")


def _own_phrases(profile: Profile) -> list[str]:
    r"""Return what stands before `\boxed{` in the profile's texts: the clause, its end, its label."""
    phrases: list[str] = []
    for text in (profile.closing.text, profile.closing.ask, profile.prompt.judge, profile.opening):
        for before in _BEFORE_BOX.findall(half_width(text)):
            clause = _trimmed(_SENTENCE_END.split(before)[-1].rpartition("}}")[2])
            last = re.split(r"[:\"“”„「」『』«»<>()]", clause)[-1]
            phrases += [clause, _trimmed(last), _trimmed(clause.partition(":")[0])]
    return [phrase for phrase in dict.fromkeys(phrases) if phrase]


def _trimmed(phrase: str) -> str:
    return re.sub(r"^[\W_]+|[\W_]+$", "", phrase)
