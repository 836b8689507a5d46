#!/usr/bin/env python3
"""Tables and plots of tools/quality_report.py, on figures small enough to check by hand."""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))

import quality_report  # noqa: E402  found by the line above


def row(question, policy, kl1, f1=0.5):
    return {"question": question, "policy": policy, "kl1": kl1, "tfkl": kl1 / 2, "agree": 1.0,
            "exact": 1, "f1": f1, "total_ms": 10.0}


class QualityReportTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_quality(self, lines, baseline=None):
        """(table lines, standard error, the plot's text)"""
        rows, plot = self.folder / "rows.jsonl", self.folder / "plot.svg"
        rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            quality_report.report_quality([rows], "A<B", plot, baseline)
        return out.getvalue().splitlines(), err.getvalue(), plot.read_text(encoding="utf-8")

    def sample(self):
        rows = [row(question, "reference", 0.0, 0.4) for question in (0, 1)]
        rows += [row(question, "deviation/off/0.150", kl1)
                 for question, kl1 in ((0, 0.5), (1, 0.7))]
        rows += [row(question, "attention/two_sided/0.150", kl1)
                 for question, kl1 in ((0, 0.1), (1, 0.3))]
        return [json.dumps(item) for item in rows]

    def test_means_errors_and_paired_differences_are_those_of_the_rows(self):
        table, _, _ = self.run_quality(self.sample())
        attention = next(line for line in table if line.startswith("| attention"))
        self.assertIn("propagated 0.15 | 2 | 0.200 ± 0.100 | 0.200 | 0.280 |", attention)
        self.assertIn("| +0.100 ± 0.000 |", attention)  # F1
        self.assertTrue(attention.endswith("| -0.400 ± 0.000 |"))  # against deviation
        deviation = next(line for line in table if line.startswith("| deviation"))
        self.assertTrue(deviation.endswith("| - |"))

    def test_the_last_row_of_a_question_counts(self):
        again = json.dumps(row(1, "attention/two_sided/0.150", 0.5))
        table, _, _ = self.run_quality([*self.sample(), again])
        self.assertTrue(any("| attention, propagated 0.15 | 2 | 0.300 ± 0.200 |" in line
                            for line in table))

    def test_a_second_table_has_selectors_by_ratios(self):
        more = json.dumps(row(0, "attention/two_sided/0.300", 0.05))
        table, _, _ = self.run_quality([*self.sample(), more])
        begin = table.index("| KL1 | 0.15 | 0.3 |")
        self.assertEqual(table[begin + 2], "| attention, propagated | .200 ± .100 | .050 ± .000 |")
        self.assertEqual(table[begin + 3], "| deviation | .600 ± .100 | - |")

    def test_a_policy_is_compared_with_the_others_by_question(self):
        table, _, _ = self.run_quality(self.sample(), "attention/two_sided/0.150")
        self.assertEqual(table[-1], "| deviation 0.15 | 2 | +0.4000 ± 0.0000 |")
        with self.assertRaisesRegex(SystemExit, "no policy stride"):
            self.run_quality(self.sample(), "stride/off/0.150")

    def test_half_a_line_is_named_and_passed_over(self):
        table, errors, _ = self.run_quality([*self.sample(), '{"question": 3, "pol'])
        self.assertIn("rows.jsonl:7 is passed over", errors)
        self.assertTrue(any("| 2 | 0.200" in line for line in table))

    def test_plots_are_well_formed_and_repeatable(self):
        _, _, plot = self.run_quality(self.sample())
        xml.etree.ElementTree.fromstring(plot)
        self.assertIn("A&lt;B", plot)
        self.assertEqual(plot, self.run_quality(self.sample())[2])

    def test_prefill_figures_give_a_line_for_each_ratio(self):
        figures, plot = self.folder / "prefill.json", self.folder / "prefill.svg"
        case = {"tier": "memory", "ratio": 0.15, "median_ms": 120.0}
        figures.write_text(json.dumps({
            "model": "m.gguf", "threads": 2, "prefill": [{"tokens": 512, "median_ms": 300.0}],
            "fused": [{"prompt_tokens": 1024, "full": {"median_ms": 700.0},
                       "cases": [case, {**case, "tier": "cold"}]}]}), encoding="utf-8")
        with contextlib.redirect_stderr(io.StringIO()):
            quality_report.report_prefill(figures, plot)
        text = plot.read_text(encoding="utf-8")
        xml.etree.ElementTree.fromstring(text)
        self.assertEqual(text.count("<polyline"), 2)
        self.assertIn("fused, 0.15 recomputed", text)

    def test_a_file_without_figures_is_refused(self):
        empty = self.folder / "empty.jsonl"
        empty.write_text("", encoding="utf-8")
        with self.assertRaisesRegex(SystemExit, "no policy"):
            quality_report.report_quality([empty], "m", None)
        with self.assertRaisesRegex(SystemExit, "fusion_quality|make quality"):
            quality_report.report_quality([self.folder / "absent.jsonl"], "m", None)


if __name__ == "__main__":
    unittest.main()
