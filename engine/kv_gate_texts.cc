#include "engine/kv_gate_texts.h"

#include "base/check.h"

namespace intarsia::engine {
namespace {

// Made up, so that no model knows the answers and has to read.
constexpr std::array<KvGateText, 12> kTexts = {{
    {"Harbour of Brenvik",
     "The stone pier of Brenvik was finished in 1843 under the engineer Maria Lind. She chose the "
     "northern bay because the ice leaves it three weeks before the southern one. A crane of oak, "
     "worked by four men, lifted up to two tons until steam replaced it in 1871.",
     "Why did Maria Lind choose the northern bay for the pier?"},
    {"Tessaly moth",
     "The Tessaly moth lays its eggs on the underside of walnut leaves in late May. The "
     "caterpillars are pale green with a row of seven black dots and feed only at night. Birds "
     "avoid the adults, whose wings carry a bitter oil taken up from the leaves.",
     "Why do birds avoid adult Tessaly moths?"},
    {"Orchard Street tramway",
     "Line 4 of the tramway ran from Orchard Street to the cattle market between 1898 and 1936. "
     "Its cars were painted dark red and held forty people. When the bridge over the Selm was "
     "widened for buses, the rails were sold to a mine in the north.",
     "What happened to the rails of Line 4?"},
    {"Kelding cheese",
     "Kelding is a hard cheese of goat's milk that ripens for fourteen months in sandstone "
     "cellars. "
     "It is washed every second week with cider, which gives the rind its orange colour. A wheel "
     "weighs about nine kilograms and is cut with a wire.",
     "What gives the rind of Kelding its orange colour?"},
    {"The observatory on Mount Aral",
     "The observatory stands at 2,940 metres and has two telescopes, the larger with a mirror of "
     "1.8 metres. It closes from December to February, when the road is blocked by snow. In 1987 "
     "its astronomers found the first of the three comets that carry the mountain's name.",
     "During which months is the observatory closed?"},
    {"Pump model R7",
     "The R7 moves 120 litres a minute and starts by itself when the level in the shaft rises "
     "above "
     "40 centimetres. A red lamp means that the filter is blocked: switch the pump off, lift the "
     "grey lid and rinse the filter with warm water. The seals are to be replaced every two years.",
     "What does a red lamp on the R7 mean?"},
    {"Anselm Dorr",
     "Anselm Dorr (1711-1779) was a clockmaker in Weyd. He is remembered for a clock that shows "
     "the "
     "tides of the river, ordered by the guild of ferrymen in 1752. His daughter Ida carried the "
     "workshop on and trained eleven apprentices, among them two of her sons.",
     "Who ordered the clock that shows the tides?"},
    {"Leave of absence",
     "Employees have 28 days of leave a year, and two more after ten years of service. Up to five "
     "days may be moved to the following year if the head of department agrees in writing before "
     "15 December. Days that are not taken by 31 March are lost.",
     "Until when can moved days of leave be taken?"},
    {"Lake Ummar",
     "Lake Ummar is 61 metres deep and has no outlet, so that its water is slightly salty. Every "
     "eight to ten years a warm spring turns the lower layers upwards, and the lake looks milky "
     "for "
     "some weeks. Fishermen then stay ashore, because the nets come up empty.",
     "Why is the water of Lake Ummar slightly salty?"},
    {"The glass song",
     "The glass song is a dance for six couples from the valley of Irn. Each dancer balances a "
     "glass of water on a wooden tray, and whoever spills a drop has to sing the next verse. It "
     "was "
     "written down for the first time by the teacher Piet Halvo in 1904.",
     "What must a dancer do who spills water?"},
    {"Storage of seed potatoes",
     "Seed potatoes keep best at four degrees and a humidity of ninety per cent. Above eight "
     "degrees they sprout too early, and below two degrees their starch turns to sugar. Crates are "
     "stacked with a hand's width of air between them and are not washed before winter.",
     "What happens to seed potatoes below two degrees?"},
    {"Library of Sorne",
     "The library of Sorne owns 310,000 volumes, of which a third came from the abbey that was "
     "dissolved in 1803. Its oldest book is a herbal with 212 coloured drawings. Readers may order "
     "six volumes a day; those from before 1700 are read in the blue room under supervision.",
     "Where are books from before 1700 read?"},
}};

}  // namespace

std::span<const KvGateText> KvGateTexts() { return kTexts; }

KvGatePrompt KvGatePromptAt(int64_t index) {
  const auto size = static_cast<int64_t>(kTexts.size());
  INTARSIA_CHECK(index >= 0 && index < size);
  KvGatePrompt prompt;
  constexpr std::array<int64_t, 4> kSteps = {0, 5, 1, 7};
  for (size_t i = 0; i < kSteps.size(); ++i) {
    // Which of them is first changes, and with it whose cache is exact.
    const size_t place = (i + static_cast<size_t>(index)) % kSteps.size();
    prompt.passages[place] = static_cast<size_t>((index + kSteps[i]) % size);
  }
  prompt.question = static_cast<size_t>(index);
  return prompt;
}

}  // namespace intarsia::engine
