// A C++ program that is hard on the compiler rather than on the processor: the standard library's
// larger templates, instantiated for two types. Only ever compiled.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N>
struct Tagged {
  int value[N];
  bool operator<(const Tagged& other) const { return value[0] < other.value[0]; }
  bool operator==(const Tagged& other) const { return value[0] == other.value[0]; }
};

template <int N>
long exercise(const std::string& text) {
  std::map<Tagged<N>, std::vector<std::string>> tree;
  std::set<std::tuple<Tagged<N>, long>> ordered;
  std::unordered_map<std::string, std::shared_ptr<Tagged<N>>> table;
  std::variant<int, std::string, Tagged<N>> either = text;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    Tagged<N> tag{};
    tag.value[0] = static_cast<int>(word.size());
    tree[tag].push_back(word);
    ordered.emplace(tag, N);
    table.emplace(word, std::make_shared<Tagged<N>>(tag));
  }
  std::vector<Tagged<N>> all;
  for (const auto& [tag, list] : tree) all.insert(all.end(), list.size(), tag);
  std::stable_sort(all.begin(), all.end());
  std::function<long(long, const Tagged<N>&)> add = [](long sum, const Tagged<N>& tag) {
    return sum + tag.value[0];
  };
  const bool found = std::regex_search(text, std::regex("a(b|c)+[0-9]{2,3}"));
  return std::accumulate(all.begin(), all.end(), found ? 1L : 0L, add) +
         static_cast<long>(ordered.size() + table.size() + either.index());
}

long all(const std::string& text) { return exercise<1>(text) + exercise<2>(text); }
