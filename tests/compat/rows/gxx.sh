# Templates and the standard library: hundreds of megabytes in the compiler itself.
cat >large.cc <<'CODE'
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>
template <int N> struct Chain {
  std::map<std::string, std::vector<int>> values;
  int sum() { values[std::to_string(N)].push_back(N); return N + Chain<N - 1>().sum(); }
};
template <> struct Chain<0> { int sum() { return 0; } };
int main() {
  std::regex word("([a-z]+)([0-9]*)");
  std::string text = "one1 two22 three333";
  for (std::sregex_iterator i(text.begin(), text.end(), word), end; i != end; ++i) std::cout << (*i)[1] << '\n';
  std::vector<std::shared_ptr<std::function<int(int)>>> calls;
  for (int i = 0; i < 1000; ++i) calls.push_back(std::make_shared<std::function<int(int)>>([i](int x) { return x + i; }));
  int total = Chain<100>().sum();
  for (auto& call : calls) total += (*call)(1);
  std::cout << total << '\n';
  try { std::vector<int>().at(3); } catch (const std::exception& e) { std::cout << e.what() << '\n'; }
}
CODE
g++ -std=c++20 -O1 -c large.cc -o large.o
sha256sum large.o
g++ large.o -o large
./large
