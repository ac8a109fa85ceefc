// Einsum: made of transposes, reshapes, sums and matrix products, from which its gradient comes by itself.
#include "mica/ops/einsum.h"

#include <algorithm>
#include <string>

#include "mica/ops/elementwise.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/matmul.h"
#include "mica/ops/reduce.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

// An axis by its name: a letter, or '0' for the last axis of "...", '1' for the one before, and so on.
using Labels = std::string;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool has(const Labels& labels, char label) { return labels.find(label) != Labels::npos; }

struct Term {
  Tensor x;
  Labels labels;  // one an axis
};

// "ab...c" with `rank` axes (-1: as many as `dots` for the ellipsis).
Labels parse_term(std::string_view equation, std::string_view text, int rank, int dots) {
  const size_t ellipsis = text.find("...");
  int letters = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == ellipsis) {
      i += 2;
      continue;
    }
    check(is_letter(text[i]), "einsum", "unexpected \"", text[i], "\" in \"", equation, "\"");
    ++letters;
  }
  if (rank >= 0) {
    check(ellipsis != std::string_view::npos ? letters <= rank : letters == rank, "einsum", "\"", text, "\" names ",
          letters, " axes of a tensor with ", rank);
    dots = rank - letters;
  }
  Labels labels;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i != ellipsis) {
      labels += text[i];
      continue;
    }
    for (int d = dots - 1; d >= 0; --d) labels += static_cast<char>('0' + d);
    i += 2;
  }
  return labels;
}

// The axes of `x` in the order of `wanted`, which has the same labels.
Tensor in_order(const Tensor& x, const Labels& labels, const Labels& wanted) {
  if (labels == wanted) return x;
  int order[Shape::kMaxRank];
  for (size_t i = 0; i < wanted.size(); ++i) order[i] = static_cast<int>(labels.find(wanted[i]));
  return transpose(x, Axes(std::span<const int>(order, wanted.size())));
}

// Without the axes that nothing after it needs.
void sum_out(Term& term, const Labels& needed) {
  int axes[Shape::kMaxRank];
  size_t count = 0;
  Labels left;
  for (size_t i = 0; i < term.labels.size(); ++i) {
    if (has(needed, term.labels[i]))
      left += term.labels[i];
    else
      axes[count++] = static_cast<int>(i);
  }
  if (count == 0) return;
  term = {sum(term.x, Axes(std::span<const int>(axes, count))), left};
}

// Takes the diagonal of axes that have one name.
void take_diagonals(Term& term) {
  for (size_t i = 0; i < term.labels.size(); ++i) {
    const char label = term.labels[i];
    const size_t again = term.labels.find(label, i + 1);
    if (again == Labels::npos) continue;
    term.x = diagonal(term.x, static_cast<int>(i), static_cast<int>(again));
    term.labels.erase(again, 1);
    term.labels.erase(i, 1);
    term.labels += label;
    i = static_cast<size_t>(-1);  // from the beginning
  }
}

int64_t size_of_axes(const Term& term, const Labels& labels) {
  int64_t n = 1;
  for (const char label : labels) n *= term.x.dim(static_cast<int>(term.labels.find(label)));
  return n;
}

// The product of two terms, summed over what neither `needed` nor the result has.
Term product(Term a, Term b, const Labels& needed) {
  sum_out(a, needed + b.labels);
  sum_out(b, needed + a.labels);
  Labels batch, summed, left, right;
  for (const char label : a.labels) (!has(b.labels, label) ? left : has(needed, label) ? batch : summed) += label;
  for (const char label : b.labels)
    if (!has(a.labels, label)) right += label;
  const Labels result = batch + left + right;
  check(result.size() <= Shape::kMaxRank, "einsum", "a product has more than 8 axes: ", result);
  int64_t sizes[Shape::kMaxRank];
  for (size_t i = 0; i < result.size(); ++i) {
    const Term& from = has(a.labels, result[i]) ? a : b;
    sizes[i] = size_of_axes(from, Labels(1, result[i]));
  }
  const int64_t n = size_of_axes(a, batch), rows = size_of_axes(a, left), inner = size_of_axes(a, summed),
                columns = size_of_axes(b, right);
  const Tensor x = in_order(a.x, a.labels, batch + left + summed).reshape({n, rows, inner});
  Tensor y;
  if (summed.empty())
    y = x * in_order(b.x, b.labels, batch + right).reshape({n, 1, columns});
  else
    y = matmul(x, in_order(b.x, b.labels, batch + summed + right).reshape({n, inner, columns}));
  return {y.reshape(Shape(std::span<const int64_t>(sizes, result.size()))), result};
}

}  // namespace

Tensor einsum(std::string_view equation, std::span<const Tensor> operands) {
  check(!operands.empty(), "einsum", "there must be at least one operand");
  ops::check_float("einsum", "operand 0", operands[0]);
  for (const Tensor& x : operands) ops::check_like("einsum", "an operand", x, operands[0]);
  std::string text(equation);
  std::erase(text, ' ');
  const size_t arrow = text.find("->");
  const std::string_view inputs = std::string_view(text).substr(0, arrow);

  std::vector<Term> terms;
  int dots = 0;  // axes of the longest "..."
  for (size_t begin = 0, i = 0; begin <= inputs.size(); ++i) {
    const size_t end = std::min(inputs.find(',', begin), inputs.size());
    check(i < operands.size(), "einsum", "\"", equation, "\" has more terms than the ",
          static_cast<uint64_t>(operands.size()), " operands");
    const std::string_view term = inputs.substr(begin, end - begin);
    terms.push_back({operands[i], parse_term(equation, term, operands[i].rank(), 0)});
    for (const char label : terms.back().labels)
      if (!is_letter(label)) dots = std::max(dots, label - '0' + 1);
    begin = end + 1;
  }
  check(terms.size() == operands.size(), "einsum", "\"", equation, "\" has ", static_cast<uint64_t>(terms.size()),
        " terms for ", static_cast<uint64_t>(operands.size()), " operands");

  int64_t sizes[128];
  std::fill(sizes, sizes + 128, int64_t{-1});
  const auto size_of_label = [&](char label) -> int64_t& { return sizes[static_cast<unsigned char>(label)]; };
  for (const Term& term : terms)
    for (size_t i = 0; i < term.labels.size(); ++i) {
      int64_t& known = size_of_label(term.labels[i]);
      const int64_t size = term.x.dim(static_cast<int>(i));
      const bool broadcasts = size == 1 || known == 1;
      if (is_letter(term.labels[i]))
        check(known < 0 || known == size || broadcasts, "einsum", "axis \"", term.labels[i], "\" has size ", known,
              " and ", size);
      else
        check(known < 0 || known == size || broadcasts, "einsum", "axes of \"...\" have sizes ", known, " and ", size);
      known = known < 0 || known == 1 ? size : known;
    }

  Labels output;
  if (arrow != std::string::npos) {
    output = parse_term(equation, std::string_view(text).substr(arrow + 2), -1, dots);
  } else {
    for (int d = dots - 1; d >= 0; --d) output += static_cast<char>('0' + d);
    for (char label = 'A'; label <= 'z'; ++label) {
      int64_t count = 0;
      for (const Term& term : terms) count += std::count(term.labels.begin(), term.labels.end(), label);
      if (count == 1) output += label;
    }
  }
  check(dots == 0 || has(output, '0'), "einsum", "the result leaves out the axes of \"...\"");
  check(output.size() <= Shape::kMaxRank, "einsum", "the result has more than 8 axes");
  for (const char label : output) {
    check(size_of_label(label) >= 0, "einsum", "no operand has the result's axis \"", label, "\"");
    check(std::count(output.begin(), output.end(), label) == 1, "einsum", "the result names axis \"", label,
          "\" twice");
  }

  // Axes of size 1 that broadcast are left out: a product with what does not have an axis is the same for all of it.
  for (Term& term : terms)
    for (size_t i = term.labels.size(); i-- > 0;)
      if (term.x.dim(static_cast<int>(i)) == 1 && size_of_label(term.labels[i]) != 1) {
        term.x = squeeze(term.x, static_cast<int>(i));
        term.labels.erase(i, 1);
      }
  for (Term& term : terms) take_diagonals(term);
  Term result = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    Labels needed = output;
    for (size_t later = i + 1; later < terms.size(); ++later) needed += terms[later].labels;
    result = product(std::move(result), terms[i], needed);
  }
  sum_out(result, output);
  const Tensor y = in_order(result.x, result.labels, output);
  return y.shares_storage_with(operands[0]) ? y.clone() : y;
}

}  // namespace mica
