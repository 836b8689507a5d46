#!/usr/bin/env python3
"""What tools/gpu_fused_plot.py reads of a benchmark's output, and what it refuses."""
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))

import gpu_fused_plot  # noqa: E402  found by the line above
import svg_plot  # noqa: E402

HEAD = "NVIDIA H200, 150.1 GB\nproducts in bf16; 16.06 GB of weights\n"
SHORT = """
1024 tokens, 126 MB of caches; full prefill 22.3 ms
mode                   ratio  first ms  CV %  x full  load ms     GB/s hidden %  question    solve\
    rows
attention               0.15     13.88   0.4    1.61     2.78     45.3     92.8      6.48    0.129\
    7.13
stride                  0.15      8.00  10.0    2.84     2.62     48.0     94.6      0.00    0.201\
    7.59
stride                  0.05      6.00  10.0    2.84     2.62     48.0     94.6      0.00    0.201\
    7.59
"""
LONG = """
65536 tokens, 8582 MB of caches; full prefill 3559.1 ms
stride                  0.15    542.98   0.7    6.55   155.32     55.2     97.9      0.00    0.925\
  542.59
stride-on-device        0.15    537.00   0.7    6.55     0.00      0.0    100.0      0.00    0.925\
  536.59
"""


class GpuFusedPlotTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def files(self, *texts):
        paths = [self.folder / f"{number}.txt" for number in range(len(texts))]
        for path, text in zip(paths, texts):
            path.write_text(text, encoding="utf-8")
        return paths

    def read(self, *texts):
        return gpu_fused_plot.read_files(self.files(*texts))

    def test_cases_are_read_with_their_deviation(self):
        figures = self.read(HEAD + SHORT)
        self.assertEqual(figures.machine, ("NVIDIA H200", "products in bf16"))
        self.assertEqual(figures.full, {1024: 22.3})
        milliseconds, deviation = figures.cases[(1024, "stride", 0.15)]
        self.assertEqual(milliseconds, 8.0)
        self.assertAlmostEqual(deviation, 0.8)

    def test_files_are_one_line_by_length(self):
        plot = gpu_fused_plot.length_plot(self.read(HEAD + LONG, HEAD + SHORT), 0.15, ["stride"])
        self.assertEqual([series.name for series in plot.series], ["full prefill", "stride"])
        self.assertEqual([x for x, _, _ in plot.series[0].points], [1024, 65536])
        self.assertEqual([y for _, y, _ in plot.series[1].points], [8.0, 542.98])
        xml.etree.ElementTree.fromstring(svg_plot.render(plot))

    def test_ratios_of_one_length_are_in_order(self):
        plot = gpu_fused_plot.ratio_plot(self.read(HEAD + SHORT + LONG), 1024, [])
        self.assertEqual([series.name for series in plot.series], ["attention", "stride"])
        self.assertEqual([x for x, _, _ in plot.series[1].points], [0.05, 0.15])
        self.assertEqual(plot.levels, (("full prefill", 22.3),))
        xml.etree.ElementTree.fromstring(svg_plot.render(plot))

    def test_caches_on_the_device_have_their_modes_colour_dashed(self):
        plot = gpu_fused_plot.ratio_plot(self.read(HEAD + LONG), 65536, [])
        self.assertEqual([series.is_dashed for series in plot.series], [False, True])
        self.assertEqual({series.colour for series in plot.series}, {0})

    def test_what_does_not_belong_together_is_refused(self):
        fp8 = HEAD.replace("bf16", "fp8 from 64 rows on, sums fast")
        with self.assertRaisesRegex(SystemExit, "1.txt is of NVIDIA H200, products in fp8"):
            self.read(HEAD + SHORT, fp8 + LONG)
        with self.assertRaisesRegex(SystemExit, "1.txt:6: attention at 0.15 .* measured already"):
            self.read(HEAD + SHORT, HEAD + SHORT.replace("22.3", "22.4"))

    def test_what_is_no_output_of_the_benchmark_is_refused(self):
        for text, message in (("", "does not begin with the device"),
                              (SHORT, "does not begin with the device"),
                              (HEAD, "no cases"),
                              (HEAD + "stride 0.15 1 2 3 4 5 6 7 8 9\n", "txt:3 is no case"),
                              (HEAD + SHORT + "stride 0.15 1\n", "txt:9 is no case")):
            with self.subTest(text=text), self.assertRaisesRegex(SystemExit, message):
                self.read(text)
        with self.assertRaisesRegex(SystemExit, "none of the cases"):
            gpu_fused_plot.ratio_plot(self.read(HEAD + SHORT), 4096, [])
        with self.assertRaisesRegex(SystemExit, "no .*absent.txt"):
            gpu_fused_plot.read_files([self.folder / "absent.txt"])


if __name__ == "__main__":
    unittest.main()
