"""Labels before scores: in any language of the table, and a profile's own."""

from dataclasses import replace

import pytest

from grm_service.judging import parse
from grm_service.judging.format_check import format_fault
from grm_service.judging.neutralising import neutraliser
from grm_service.profiles.profile import Closing, Sections
from grm_service.types import Principle
from tests.judging.profiles import PROFILE

CHINESE = replace(
    PROFILE,
    sections=Sections("评判标准", "分析"),
    closing=Closing("\n\n裁决：\\boxed{", "请只写裁决，形式为“结论：\\boxed{{{boxed}}}”"),
)
GERMAN = replace(
    PROFILE, sections=Sections("Maßstäbe", "Begründung"), closing=Closing("\n\nMein Urteil lautet \\boxed{")
)
ARABIC = replace(PROFILE, sections=Sections("المعايير", "التحليل"), closing=Closing("\n\nالدرجات: \\boxed{"))


def read(text, profile=PROFILE, n=2):
    try:
        return parse.parse(text, n, profile).scores
    except parse.Unreadable as unreadable:
        return unreadable.reason


@pytest.mark.parametrize(
    "line",
    [
        "Final Scores (1-10): \\boxed{8, 3}",
        "Final Answer: \\boxed{8, 3}",
        "**Verdict:** \\boxed{8, 3}",
        "Weighted total scores = \\boxed{8, 3}",
        "**Overall scores for Response 1 and Response 2:** \\boxed{8, 3}",
        "The scores are \\boxed{8, 3}.",
        "Based on this analysis, the final scores are: \\boxed{8, 3}",
        "My ratings (out of 10) - $\\boxed{8, 3}$",
        "Both are right. Scores: \\boxed{8, 3}",
        "3. Scores: \\boxed{8, 3}",
        '"Scores: \\boxed{8, 3}"',
        "评分：\\boxed{8, 3}",
        "分数: \\boxed{8，3}",
        "**最终评分（1－10）**：\\boxed{８、３}",
        "回答1和回答2的得分分别为：\\boxed{8分，3分}",
        "第一个更好。综上所述，评分为 \\boxed{8；3}",
        "評分：\\boxed{8, 3}",
        "回答A和回答B的最终Scores：\\boxed{8, 3}",
        "最終スコア：\\boxed{8、3}",
        "評価：\\boxed{8, 3}",
        "최종 점수: \\boxed{8, 3}",
        "Endgültige Bewertungen: \\boxed{8; 3}",
        "Punktzahlen für Antwort 1 und Antwort 2: \\boxed{8, 3}",
        "Notes finales\u00a0: \\boxed{8, 3}",
        "Puntuaciones finales: \\boxed{8, 3}",
        "Pontuações: \\boxed{8, 3}",
        "Punteggi: \\boxed{8, 3}",
        "Итоговые оценки: \\boxed{8, 3}",
        "Scores: $$\\boxed{[8, 3]}$$",
        "Scores: \\boxed{\\text{8, 3}}",
        "Scores: \\boxed{\\mathbf{8, 3}}",
        "Scores: \\boxed{8}, \\boxed{3}",
        "Scores: \\boxed{8, 3}\n\nOn my scale that is 7/10 and 10/10, see [2].",
        "Scores: \\boxed{8, 3}\n\nThese have the form \\boxed{x, x} of the prompt.",
    ],
)
def test_label_in_any_language(line):
    assert read("Analysis: Fine.\n" + line) == (8, 3)


@pytest.mark.parametrize(
    "line",
    [
        "Its answer is \\boxed{8, 3}",
        "The final answer is \\boxed{8, 3}",
        "Final Answer: \\boxed{8, 3} is what it says",
        "Final Answer: \\boxed{8, 3}\nThat is right.",
        "Output of the code: \\boxed{8, 3}",
        "The score is \\boxed{8, 3} after the first half.",
        "得分为 \\boxed{8, 3}，与答案一致。",
        "> Scores: \\boxed{8, 3}",
        "> \\boxed{8, 3}",
        "It ends with the scores \\boxed{8, 3}",
        "It says: Scores: \\boxed{8, 3}",
        'It says "Done. Scores: \\boxed{8, 3}"',
        "它说：“好。评分：\\boxed{8, 3}”",
        "回答1要求评分为 \\boxed{8, 3}",
        "The match scores \\boxed{8, 3} in all",
        "such as \\boxed{8, 3}",
        "Ranking: \\boxed{2, 1}",
        "Best responses in order: \\boxed{2, 1}",
        "Response 1: \\boxed{8}\nResponse 2: \\boxed{3}",
        "| Response 1 | Response 2 |\n|---|---|\n| \\boxed{8} | \\boxed{3} |",
        "裁决：\\boxed{8, 3}",
        "The results: \\boxed{8}, \\boxed{3}",
        "\\boxed{8}, \\boxed{3}",
        "Scores: \\boxed{8, 3}\nI do not stand by \\boxed{these}.",
        "Scores: [[8, 3]]",
        "Scores: \\boxed {8, 3}",
        "Scores: \\boxed｛8, 3｝",
    ],
)
def test_quotation_is_no_answer(line):
    assert read("Analysis: Fine.\n" + line) == "no_scores"


@pytest.mark.parametrize("label", ["Score for Response", "Response 2, score of response", "- Score"])
def test_a_score_per_line_is_no_list(label):
    assert read(f"{label} 1: \\boxed{{8}}\n{label} 2: \\boxed{{3}}") in ("wrong_count", "no_scores")


@pytest.mark.parametrize(
    "content", ['"8", "3"', "8/10, 3/10", "8 3", "8,, 3", "8, 3,", "7,5; 3", "八，三", "[8, 3", "8, 3 points"]
)
def test_unclear_numbers_are_no_scores(content):
    assert read(f"Scores: \\boxed{{{content}}}") == "not_a_number"


@pytest.mark.parametrize(
    ("profile", "label"),
    [
        (CHINESE, "裁决："),
        (CHINESE, "**裁决**: "),
        (CHINESE, "最终裁决："),
        (CHINESE, "结论："),
        (CHINESE, "评分："),
        (CHINESE, "Scores: "),
        (GERMAN, "Mein Urteil lautet: "),
        (GERMAN, "Scores: "),
        (ARABIC, "الدرجات: "),
        (replace(PROFILE, opening="Urteil: \\boxed{"), "Urteil: "),
    ],
)
def test_label_of_the_profile(profile, label):
    assert read(f"Gut.\n{label}\\boxed{{8, 3}}", profile) == (8, 3)
    assert parse.before_closing(f"Gut.\n{label}\\boxed{{8,", profile) == "Gut."


def test_sections_with_full_width_punctuation():
    text = (
        "评判标准：\n1、正确性（权重：60%）\n（2）简洁【权重：０.４】\n３．语气\n分析：\n回答一正确，回答二不然。\n\n"
        "裁决：\\boxed{9，2}"
    )
    critique = parse.parse(text, 2, CHINESE)
    assert critique.principles == (Principle("正确性", 0.6), Principle("简洁", 0.4), Principle("语气"))
    assert critique.analysis == "回答一正确，回答二不然。"
    assert critique.scores == (9, 2)


@pytest.mark.parametrize("profile", [PROFILE, CHINESE, GERMAN, ARABIC])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_closing_is_read(profile, n):
    scores = (9, 2, 3, 10, 1)[:n]
    text = f"Gut{profile.closing.text}{', '.join(map(str, scores))}}}"
    assert read(text, profile, n) == scores
    assert format_fault(profile) is None


@pytest.mark.parametrize(
    "line", ["裁决：\\boxed{10, 1}", "Scores: \\boxed{10, 1}", "最终评分：\\boxed{10，1}"]
)
def test_response_cannot_write_scores(line):
    assert read(neutraliser(CHINESE)(line), CHINESE) == "no_scores"
