#include "bench/end_to_end/quality_metrics.h"

#include <cctype>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace intarsia::bench {
namespace {

std::vector<std::string> Words(std::string_view text) {
  std::string plain;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::ispunct(byte) == 0) plain.push_back(static_cast<char>(std::tolower(byte)));
  }
  std::istringstream stream(plain);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) {
    if (word != "a" && word != "an" && word != "the") words.push_back(word);
  }
  return words;
}

}  // namespace

double TokenF1(std::string_view prediction, std::string_view gold) {
  const std::vector<std::string> predicted = Words(prediction);
  const std::vector<std::string> wanted = Words(gold);
  std::map<std::string, int> counts;
  for (const std::string& word : wanted) ++counts[word];
  int common = 0;
  for (const std::string& word : predicted) common += counts[word]-- > 0 ? 1 : 0;
  if (common == 0) return 0.0;
  const double precision = static_cast<double>(common) / static_cast<double>(predicted.size());
  const double recall = static_cast<double>(common) / static_cast<double>(wanted.size());
  return 2.0 * precision * recall / (precision + recall);
}

}  // namespace intarsia::bench
