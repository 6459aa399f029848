"use strict";
// Sorting, and the ROC panel. Every text of a run enters the page as text, never as markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const collator = new Intl.Collator("en", { numeric: true });

  function element(name, attributes = {}, ...children) {
    const svg = ["svg", "path", "line", "text", "g", "rect"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // A long name may break after its underscores and slashes.
  const broken = (name) => name.split(/(?<=[_/])(?=\w\w)/)
    .flatMap((part, i) => (i ? [element("wbr"), part] : [part]));

  // --- Sorting. data-value is a number to sort by, or "" for what stays last; without it, the text.

  function sortable(table, given) {
    const heads = [...table.tHead.rows[0].cells];
    let column = 0;
    let direction = 0; // 1 rising, -1 falling, 0 as given
    const key = (row) => {
      const value = row.cells[column].dataset.value;
      if (value === undefined) return { rank: 1, value: row.cells[column].textContent };
      return value === "" ? { rank: 2 } : { rank: 0, value: Number(value) };
    };
    const compare = ([, a], [, b]) => {
      if (a.rank === 2 || b.rank === 2) return a.rank === b.rank ? 0 : a.rank === 2 ? 1 : -1;
      if (a.rank !== b.rank) return direction * (a.rank - b.rank);
      if (a.rank) return direction * collator.compare(a.value, b.value);
      return a.value === b.value ? 0 : direction * (a.value < b.value ? -1 : 1);
    };
    const apply = () => {
      const rows = given();
      const ordered = direction ? rows.map((row) => [row, key(row)]).sort(compare) : rows.map((row) => [row]);
      table.tBodies[0].append(...ordered.map(([row]) => row));
    };
    heads.forEach((head, index) => {
      const button = element("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        direction = index !== column || !direction ? 1 : direction === 1 ? -1 : 0;
        column = index;
        for (const other of heads) other.removeAttribute("aria-sort");
        if (direction) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
        apply();
      });
    });
    return () => direction && apply();
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length > 1) sortable(table, () => rows);
  }
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

  // --- The ROC panel.

  if (!$("page_live")) return;
  const MOST = 40; // 8 dashes and 5 markers: each curve has a pair of its own, whatever its colour
  const DASHES = ["none", "8 3", "2 3", "8 3 2 3", "14 4", "4 2", "14 3 2 3 2 3", "1 2"];
  const MARKERS = ["M-5,-5h10v10h-10z", "M0,-6L6,5H-6z", "M0,-7L6,0L0,7L-6,0z", "M0,6L6,-5H-6z",
    "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z"];
  const LEFT = 52, TOP = 12, SIDE = 356;
  const { labels, curves } = JSON.parse($("page_data").textContent);
  const slots = new Array(MOST).fill(null);
  const plot = $("page_plot");
  let threshold = 0.5;

  function load(run) {
    const bytes = Uint8Array.from(atob(run.score), (c) => c.charCodeAt(0));
    const scores = new Float64Array(bytes.buffer);
    const of = (label) => scores.filter((s, i) => labels[run.labels][i] === label && !Number.isNaN(s)).sort();
    [run.positives, run.negatives] = [of("1"), of("0")];
    run.unscored = scores.length - run.positives.length - run.negatives.length;
  }

  // How many of the rising scores are called positive. In log odds, as probabilities near 1 tie.
  function called(scores, cut, tie) {
    let low = 0, high = scores.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (scores[middle] > cut || (tie && scores[middle] === cut)) high = middle;
      else low = middle + 1;
    }
    return scores.length - low;
  }

  function counts(run) {
    const cut = Math.log(threshold / (1 - threshold));
    const tp = called(run.positives, cut, run.tie), fp = called(run.negatives, cut, run.tie);
    return { tp, fp, fn: run.positives.length - tp, tn: run.negatives.length - fp };
  }

  const x = (fpr) => LEFT + SIDE * fpr;
  const y = (tpr) => TOP + SIDE * (1 - tpr);

  function outline(run) {
    const { positives, negatives } = run;
    if (!positives.length || !negatives.length) return "";
    let i = positives.length, j = negatives.length;
    const points = [`${x(0)},${y(0)}`];
    while (i || j) {
      const score = Math.max(i ? positives[i - 1] : -Infinity, j ? negatives[j - 1] : -Infinity);
      while (i && positives[i - 1] === score) i -= 1;
      while (j && negatives[j - 1] === score) j -= 1;
      points.push(`${x(1 - j / negatives.length).toFixed(2)},${y(1 - i / positives.length).toFixed(2)}`);
    }
    return `M${points.join("L")}`;
  }

  // As Python rounds, half to even, so that a number is the same here and in the tables.
  function fixed(value) {
    const scaled = value * 1000;
    const tie = scaled % 1 === 0.5 && (value * 16) % 1 === 0;
    return (tie ? (2 * Math.round(scaled / 2)) / 1000 : value).toFixed(3);
  }

  function wilson(hits, n) {
    const z2 = 1.959963984540054 ** 2;
    const centre = (hits + z2 / 2) / (n + z2);
    const half = Math.sqrt(z2 * ((hits * (n - hits)) / n + z2 / 4)) / (n + z2);
    return [hits ? centre - half : 0, hits === n ? 1 : centre + half];
  }

  function showRate(cell, hits, n) {
    cell.dataset.value = n ? hits / n : "";
    if (!n) return cell.replaceChildren("n/a");
    const [low, high] = wilson(hits, n).map(fixed);
    return cell.replaceChildren(fixed(hits / n), " ", element("small", {}, `[${low}, ${high}]`));
  }

  function update(run) {
    const { tp, fp, fn, tn } = counts(run);
    const cells = [...run.row.cells].slice(1);
    [[tp, tp + fn], [tn, tn + fp], [tp, tp + fp], [tn, tn + fn], [tp + tn, tp + fp + fn + tn]]
      .forEach(([hits, n], i) => showRate(cells[i], hits, n));
    [tp, fp, fn, tn].forEach((n, i) => {
      cells[5 + i].dataset.value = n;
      cells[5 + i].textContent = n.toLocaleString("en");
    });
    const defined = tp + fn > 0 && fp + tn > 0;
    run.marker.toggleAttribute("hidden", !defined);
    if (defined) run.marker.setAttribute("transform", `translate(${x(fp / (fp + tn))},${y(tp / (tp + fn))})`);
  }

  function choose(run) {
    const slot = slots.indexOf(null);
    if (run.slot !== undefined || slot < 0) return run.slot !== undefined;
    if (!run.positives) load(run);
    [slots[slot], run.slot] = [run, slot];
    const look = { class: `curve c${slot % 5}`, "stroke-dasharray": DASHES[slot % 8] };
    const mark = { class: `marker c${slot % 5}`, d: MARKERS[slot % 5] };
    run.marker = element("path", mark);
    run.drawn = element("g", {}, element("path", { ...look, d: outline(run) }), run.marker);
    plot.append(run.drawn);
    const sample = element("svg", { viewBox: "0 0 48 16", class: "key", "aria-hidden": "true" },
      element("path", { ...look, d: "M1,8H47" }), element("path", { ...mark, transform: "translate(24,8)" }));
    const numbers = Array.from({ length: 9 }, () => element("td", { class: "number" }));
    run.row = element("tr", {}, element("th", { scope: "row" }, sample, ...broken(run.name),
      element("small", {}, ` ${run.dataset}, positive: ${run.positive}`)), ...numbers);
    light(run.row, run);
    update(run);
    return true;
  }

  function drop(run) {
    if (run.slot === undefined) return;
    slots[run.slot] = null;
    run.drawn.remove();
    run.row.remove();
    delete run.slot;
  }

  function light(target, run) {
    for (const [event, on] of [["mouseenter", 1], ["mouseleave", 0], ["focusin", 1], ["focusout", 0]]) {
      target.addEventListener(event, () => {
        if (run.slot === undefined) return;
        plot.classList.toggle("lit", Boolean(on));
        run.drawn.classList.toggle("lit", Boolean(on));
      });
    }
  }

  const chosen = () => curves.filter((run) => run.slot !== undefined);
  const resort = sortable($("page_numbers"), () => chosen().map((run) => run.row));

  function refresh(refused = false) {
    const runs = chosen();
    plot.classList.remove("lit");
    $("page_numbers").tBodies[0].append(...runs.map((run) => run.row));
    resort();
    const listed = curves.filter((run) => !run.item.hidden).length;
    const [all, some] = [curves.length, listed].map((n) => n.toLocaleString("en"));
    $("page_status").textContent = `${runs.length} chosen; ${some} of ${all} runs listed.` +
      (refused ? ` At most ${MOST} can be told apart: choose none, or fewer, first.` : "");
    $("page_plot_title").textContent = `ROC curves of ${runs.length} chosen runs, each with a marker at the ` +
      "threshold; the table below has their numbers.";
    const lacking = runs.filter((run) => run.unscored);
    $("page_unscored").hidden = !lacking.length;
    $("page_unscored").textContent = lacking.map((run) =>
      `${run.name}: cases without a score, left out: ${run.unscored}.`).join(" ");
  }

  function setThreshold(value) {
    threshold = value;
    chosen().forEach(update);
    resort();
  }

  function frame() {
    const add = (name, attributes, ...children) => plot.append(element(name, attributes, ...children));
    for (let i = 0; i <= 5; i += 1) {
      const at = i / 5;
      add("path", { class: "grid", d: `M${x(at)},${y(0)}V${y(1)}M${x(0)},${y(at)}H${x(1)}` });
      add("text", { x: x(at), y: y(0) + 16, "text-anchor": "middle" }, at.toFixed(1));
      add("text", { x: x(0) - 7, y: y(at) + 4, "text-anchor": "end" }, at.toFixed(1));
    }
    add("path", { class: "chance", d: `M${x(0)},${y(0)}L${x(1)},${y(1)}` });
    add("text", { x: x(0.5), y: y(0) + 36, "text-anchor": "middle" }, "False positive rate (1 − specificity)");
    add("text", { transform: `translate(14,${y(0.5)})rotate(-90)`, "text-anchor": "middle" },
      "True positive rate (sensitivity)");
    add("text", { transform: `translate(${x(0.7)},${y(0.72)})rotate(-45)`, "text-anchor": "middle" }, "chance");
  }

  function list() {
    for (const run of curves) {
      run.box = element("input", { type: "checkbox" });
      run.item = element("li", {}, element("label", {}, run.box, element("span", {}, ...broken(run.name)),
        element("small", {}, run.dataset)));
      run.words = `${run.name} ${run.dataset}`.toLowerCase();
      run.box.addEventListener("change", () => {
        const wanted = run.box.checked;
        if (wanted) run.box.checked = choose(run);
        else drop(run);
        refresh(wanted && !run.box.checked);
      });
      light(run.item, run);
    }
    $("page_runs").append(...curves.map((run) => run.item));
  }

  const check = (runs) => runs.filter((run) => !(run.box.checked = choose(run))).length > 0;

  $("page_filter").addEventListener("input", () => {
    const words = $("page_filter").value.toLowerCase().split(/\s+/);
    for (const run of curves) run.item.hidden = !words.every((word) => run.words.includes(word));
    refresh();
  });
  $("page_all").addEventListener("click", () => refresh(check(curves.filter((run) => !run.item.hidden))));
  $("page_none").addEventListener("click", () => {
    for (const run of curves) run.box.checked = Boolean(drop(run));
    refresh();
  });
  $("page_slider").addEventListener("input", () => {
    $("page_number").value = $("page_slider").value;
    $("page_number").dispatchEvent(new Event("input"));
  });
  $("page_number").addEventListener("input", (event) => {
    const value = $("page_number").valueAsNumber;
    const wrong = !(value >= 0 && value <= 1);
    $("page_number").setAttribute("aria-invalid", wrong);
    $("page_wrong").textContent = wrong ? "Give a number from 0 to 1." : "";
    if (wrong) return;
    if (event.isTrusted) $("page_slider").value = value;
    setThreshold(value);
  });
  $("page_number").addEventListener("keydown", (event) => {
    const step = { ArrowUp: 0.001, ArrowDown: -0.001 }[event.key];
    if (!step) return;
    event.preventDefault(); // a step of 1 would be the browser's
    $("page_slider").value = (($("page_number").valueAsNumber || 0) + step).toFixed(3);
    $("page_slider").dispatchEvent(new Event("input"));
  });

  frame();
  list();
  check(curves.filter((run) => run.shown));
  refresh();
  [$("page_live").hidden, $("page_static").hidden] = [false, true];
})();
