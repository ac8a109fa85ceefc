// Tables: columns by name, and their rows.
#include "mica/data/table.h"

#include <doctest/doctest.h>

#include <cmath>

#include "support/wrong_use.h"

using namespace mica;
using mica::data::Table;

namespace {

Table people() {
  Table table;
  table.add("age", std::vector<double>{35, NAN, 7.5});
  table.add("city", {"Berlin", "Zürich", ""});
  table.add("n", std::vector<double>{1, 2, 3});
  return table;
}

using Strings = std::vector<std::string>;

template <class T>
concept GivesNumbers = requires(T table) {
  std::forward<T>(table).numbers("n");
};
template <class T>
concept GivesTexts = requires(T table) {
  std::forward<T>(table).texts("city");
};

}  // namespace

TEST_CASE("table: columns are found by name, picked and left out") {
  const Table t = people();
  CHECK(t.rows() == 3);
  CHECK(t.columns() == 3);
  CHECK(t.contains("city"));
  CHECK(!t.contains("ci"));
  CHECK(t.select({"n", "age"}).names() == Strings{"n", "age"});
  CHECK(t.drop({"age"}).names() == Strings{"city", "n"});
  const Table without_age = t.drop({"age"}), n = t.select({"n"});
  CHECK(without_age.texts("city")[1] == "Zürich");
  CHECK(n.numbers("n").data() == t.numbers("n").data());  // shared
}

TEST_CASE("table: the values of a column are not asked of a table that is gone at once") {
  CHECK(GivesNumbers<Table&>);
  CHECK(GivesTexts<const Table&>);
  CHECK(!GivesNumbers<Table>);
  CHECK(!GivesNumbers<const Table>);
  CHECK(!GivesTexts<Table>);
  CHECK(!GivesTexts<const Table>);
}

TEST_CASE("table: rows are cut out and taken in any order") {
  const Table t = people();
  const Table taken = t.take(std::vector<int64_t>{2, 0, 0});
  CHECK(taken.rows() == 3);
  CHECK(taken.numbers("n")[0] == 3);
  CHECK(taken.texts("city")[0] == "");
  CHECK(taken.texts("city")[2] == "Berlin");
  const Table sliced = t.slice(1, 3);
  CHECK(sliced.numbers("n")[0] == 2);
  CHECK(t.slice(-1, 3).rows() == 1);
  CHECK(t.slice(1, 1).rows() == 0);
  CHECK(t.take({}).columns() == 3);
}

TEST_CASE("table: the first rows are shown in columns, numbers to the right") {
  CHECK(to_string(people(), 2) ==
        "age  city    n\n"
        " 35  Berlin  1\n"
        "     Zürich  2\n"
        "3 rows, 3 columns");
  Table wide;
  wide.add("a", {std::string(30, 'x') + "\n", "\ny"});
  CHECK(to_string(wide) == "a\n" + std::string(24, 'x') + "\n?y\n2 rows, 1 columns");
  CHECK(to_string(Table()) == "\n0 rows, 0 columns");
}

TEST_CASE("table: what is said of wrong use") {
  Table t = people();
  test::check_wrong_use({
      {"[numbers] there is no column \"x\"", [&] { t.numbers("x"); }},
      {"[numbers] column \"city\" holds texts", [&] { t.numbers("city"); }},
      {"[texts] column \"age\" holds numbers", [&] { t.texts("age"); }},
      {"[texts] row 3 is not within 0 to 2", [&] { t.texts("city")[3]; }},
      {"[texts] row -1 is not within 0 to 2", [&] { t.texts("city")[-1]; }},
      {"[texts] row 0 is not within 0 to -1", [] { data::Texts()[0]; }},
      {"[type] there is no column \"\"", [&] { t.type(""); }},
      {"[select] there is no column \"x\"",
       [&] {
         t.select({"age", "x"});
       }},
      {"[select] column \"age\" is named twice",
       [&] {
         t.select({"age", "age"});
       }},
      {"[drop] there is no column \"x\"", [&] { t.drop({"x"}); }},
      {"[add] a column must have a name", [&] { t.add("", std::vector<double>(3)); }},
      {"[add] there is a column \"age\" already", [&] { t.add("age", Strings(3)); }},
      {"[add] column \"b\" has 2 rows, the table 3", [&] { t.add("b", Strings(2)); }},
      {"[slice] rows 2 to 1 are not within 0 to 3", [&] { t.slice(2, 1); }},
      {"[slice] rows 0 to 4 are not within 0 to 3", [&] { t.slice(0, 4); }},
      {"[take] row 3 is not within 0 to 2",
       [&] {
         t.take(std::vector<int64_t>{0, 3});
       }},
      {"[take] row -1 is not within 0 to 2", [&] { t.take(std::vector<int64_t>{-1}); }},
  });
  CHECK(t.columns() == 3);
}
