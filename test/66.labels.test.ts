/** Which class does a name, a number or a file of names mean? */

import { describe, expect, test } from "vitest";
import {
  ambiguities,
  type ClassRule,
  checkTyped,
  describeClassMap,
  duplicates,
  mapClasses,
  mappedNames,
  parseLabels,
  resolveLabels,
} from "../lib/labels/index.js";
import { wordsToLabels } from "../lib/options/labels.js";

describe("classes of a set in a model", () => {
  const map = (classes: string[], classNames: string[] = [], numClasses = 3, rule?: ClassRule) => {
    const found = mapClasses({ folder: "t", classes }, { numClasses, classNames }, rule);
    return [found.rule, ...found.classes];
  };

  test("by name, by number, by place, in this order", () => {
    const animals = ["dog", "owl", "cat"];
    expect(map(["Cat", "dog ", "owl"], animals)).toEqual(["name", 2, 0, 1]);
    expect(map(["owl"], animals)).toEqual(["name", 1]);
    expect(map(["tench"], ["goldfish, Carassius auratus", "tench, Tinca tinca"], 2)).toEqual(["name", 1]);
    expect(map(["2"])).toEqual(["number", 2]);
    expect(map(["0", "1", "2"], ["zero", "one", "two"])).toEqual(["number", 0, 1, 2]);
    const folders = ["0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]; // sorted as file systems sort
    expect(map(folders, [], 11)).toEqual(["number", 0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(map(folders, folders, 11)).toEqual(["name", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(map(["00", "01", "02"])).toEqual(["number", 0, 1, 2]);
    expect(map(["a", "b", "c"], animals)).toEqual(["place", 0, 1, 2]);
    expect(map(["a", "b", "c"])).toEqual(["place", 0, 1, 2]);
    expect(map(["2001", "2002", "2003"])).toEqual(["place", 0, 1, 2]);
  });

  test("refuses what none of them explains, and says why", () => {
    const refused = (classes: string[], classNames: string[], text: RegExp, rule?: ClassRule) =>
      expect(() => map(classes, classNames, 3, rule)).toThrow(
        expect.objectContaining({ code: "INVALID_TOKENS", message: expect.stringMatching(text) }),
      );
    const animals = ["dog", "owl", "cat"];
    refused(["a"], animals, /rule "place".*such as "a"/);
    refused(["a", "b", "c", "d"], animals, /4 classes/);
    refused(["3"], [], /such as "3"/);
    refused(["dog", "owl", "kat"], animals, /the model knows 2, not "kat"/); // by place, dogs would be dogs by chance
    refused(["dog", "Dog", "owl"], animals, /two of them called "dog"/);
    refused(["crane", "owl", "x"], ["crane", "crane", "owl"], /"crane" is the name of classes 0 and 1/);
    refused(["a", "b", "c"], animals, /names that the model knows/, "name");
    refused(["1", "1"], [], /numbers in 0\.\.2/, "number");
  });

  test("by place when it is asked for, also with fewer classes", () => {
    expect(map(["dog", "owl", "kat"], ["dog", "owl", "cat"], 3, "place")).toEqual(["place", 0, 1, 2]);
    expect(map(["a"], [], 3, "place")).toEqual(["place", 0]);
  });

  test("names after a training: found ones stay, places take the set's", () => {
    const names = (classes: string[], classNames: string[], numClasses = 3) => {
      const [set, model] = [
        { folder: "t", classes },
        { numClasses, classNames },
      ];
      return mappedNames(mapClasses(set, model), set, model);
    };
    expect(names(["owl", "cat", "dog"], ["dog", "owl", "cat"])).toEqual(["dog", "owl", "cat"]);
    expect(names(["a", "b", "c"], ["dog", "owl", "cat"])).toEqual(["a", "b", "c"]);
    expect(names(["1", "0", "2"], [])).toEqual(["0", "1", "2"]);
    expect(names(["1"], [])).toBe(undefined);
  });

  test("is told when it is more than the identity", () => {
    const line = (classes: string[], classNames: string[]) => {
      const [set, model] = [
        { folder: "t", classes },
        { numClasses: 3, classNames },
      ];
      return describeClassMap(mapClasses(set, model), set, model);
    };
    expect(line(["dog", "owl", "cat"], ["dog", "owl", "cat"])).toBe(null);
    expect(line(["cat", "dog", "owl"], ["dog", "owl", "cat"])).toBe("3 classes by name: cat is 2, dog is 0, owl is 1");
    expect(line(["0", "1", "2"], ["dog", "owl", "cat"])).toBe(null);
    expect(line(["a", "b", "c"], ["dog", "owl", "cat"])).toBe(
      "3 classes by place: a is 0 (dog), b is 1 (owl), c is 2 (cat)",
    );
  });
});

describe("labels", () => {
  const numbers = { numClasses: 10, classNames: ["0", "1", "10", "11", "2", "3", "4", "5", "6", "7"] };
  const one = (label: unknown, context: { numClasses: number; classNames: string[] } = numbers) =>
    resolveLabels(label, context)[0];

  test("a number is a class number, a text a name", () => {
    expect(one(2)).toBe(2);
    expect(one("2")).toBe(4);
    expect(one("name:2")).toBe(4);
    expect(one("unconditional")).toBe(10);
    expect(() => one("name:unconditional")).toThrow(/class name/);
    expect(one("name:unconditional", { numClasses: 1, classNames: ["Unconditional"] })).toBe(0);
    expect(() => one("9")).toThrow(/has no quotes around it/);
  });

  test("on the command line quotes and name: make a name, and what means two things is said", () => {
    expect(["2", "'2'", '"2"', "name:2", "0-2"].map((word) => wordsToLabels("label", [word]))).toEqual([
      [2],
      ["name:2"],
      ["name:2"],
      ["name:2"],
      [0, 1, 2],
    ]);
    expect(ambiguities([2, 0, 9, "2"], numbers)).toEqual([
      '2 is class number 2, which is called "10"; the class called "2" is number 4: name:2',
    ]);
    expect(() => checkTyped([10], numbers)).toThrow(/in 0\.\.9, a name, or unconditional/);
    checkTyped([9, "unconditional"], numbers);
  });

  test("a name of two classes is refused, whole or as a synonym", () => {
    const birds = { numClasses: 3, classNames: ["crane", "crane, machine", "Crane"] };
    expect(() => one("crane", birds)).toThrow(/classes 0 and 2/);
    expect(one("machine", birds)).toBe(1);
    expect(duplicates(birds.classNames)).toEqual([{ name: "crane", classes: [0, 2] }]);
  });
});

describe("files of names", () => {
  const read = (text: string | Uint8Array, path = "labels.txt") =>
    parseLabels(typeof text === "string" ? Buffer.from(text) : text, { option: "labels", path });
  const FISH = ["tench, Tinca tinca", "goldfish, Carassius auratus"];

  test.each<[string, string, string?]>([
    ["lines", "tench, Tinca tinca\r\ngoldfish, Carassius auratus\r\n\r\n"],
    ["a byte order mark", "\uFEFFtench, Tinca tinca\ngoldfish, Carassius auratus"],
    ["synset_words.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"],
    ["a Python table", "{0: 'tench, Tinca tinca',\n 1: \"goldfish, Carassius auratus\"}"],
    [
      "a Python list, assigned",
      "CLASSES = [\n  'tench, Tinca tinca', # a fish\n  u'goldfish, Carassius auratus',\n]\n",
    ],
    ["a JSON list", '["tench, Tinca tinca", "goldfish, Carassius auratus"]'],
    ["a JSON table", '{"1": "goldfish, Carassius auratus", "0": "tench, Tinca tinca"}'],
    ["torchvision's class_to_idx", '{"goldfish, Carassius auratus": 1, "tench, Tinca tinca": 0}'],
    ["Keras' pairs", '{"0": ["n01440764", "tench, Tinca tinca"], "1": ["n01443537", "goldfish, Carassius auratus"]}'],
    ["a configuration", '{"x": 1, "id2label": {"0": "tench, Tinca tinca", "1": "goldfish, Carassius auratus"}}'],
    ["numbered lines", "1: goldfish, Carassius auratus\n0: tench, Tinca tinca"],
    ["YAML", "names:\n  0: tench, Tinca tinca\n  1: goldfish, Carassius auratus\n"],
    ["a YAML list", "names:\n- tench, Tinca tinca\n- 'goldfish, Carassius auratus'\n"],
    ["CSV", 'id,label\n1,"goldfish, Carassius auratus"\n0,"tench, Tinca tinca"\n', "x.csv"],
    ["CSV in a .txt", 'name,index\n"goldfish, Carassius auratus",1\n"tench, Tinca tinca",0\n'],
    ["CSV without a header", '0,"tench, Tinca tinca"\n1,"goldfish, Carassius auratus"\n', "x.csv"],
    ["TSV", "label\ntench, Tinca tinca\ngoldfish, Carassius auratus\n", "x.tsv"],
  ])("%s", (_, text, path) => expect(read(text, path)).toEqual(FISH));

  test("numbers and doubles are names like others", () => {
    expect(read("0\n1\n10\n11\n2\n")).toEqual(["0", "1", "10", "11", "2"]);
    expect(read("crane\ncrane\n")).toEqual(["crane", "crane"]);
    expect(read("2 cents\n2 euros\n")).toEqual(["2 cents", "2 euros"]);
  });

  test.each<[string, string | Uint8Array, RegExp, string?]>([
    ["half a JSON", '{"0": "tench",\n"1"', /neither JSON nor a Python literal \(line 2: a colon/],
    ["a table of other things", '{"a": "b"}', /keys are neither numbers/],
    ["numbers from 1", "1 tench\n2 goldfish\n", /2 names with a number 2/],
    ["a number twice", "{0: 'a', 0: 'b'}", /key 0 stands twice/],
    ["a hole", '{"0": "a", "2": "b"}', /number 2 \(numbers of classes are 0\.\.1\)/],
    ["an empty line", "a\n\nb\n", /an empty line 2/],
    ["nothing", "\n", /no name/],
    ["XML", "<annotation>", /XML or HTML/],
    ["a label map", "item {\n id: 1\n name: 'a'\n}", /label map/],
    ["UTF-16", Buffer.from("\uFEFFa\nb", "utf16le"), /UTF-16/],
    ["latin-1", Buffer.from("caf\xe9\n", "latin1"), /not UTF-8/],
    ["a pickle", Buffer.from([0x80, 4, 0x95]), /a pickle \(nothing of it was executed\)/],
    ["CSV of unknown columns", "a,b,c\nx,y,z\n", /3 columns, none of which is called/, "x.csv"],
    ["ragged CSV", "id,label\n0,a,b\n", /row 2 has 3 columns, not 2/, "x.csv"],
    ["an expression", "dict(a=1)\n", /$^|./],
  ])("%s is refused or taken as it stands", (name, text, pattern, path) => {
    if (name === "an expression") return expect(read(text, path)).toEqual(["dict(a=1)"]);
    expect(() => read(text, path)).toThrow(
      expect.objectContaining({ code: "INVALID_OPTION", message: expect.stringMatching(pattern) }),
    );
  });
});
