"use strict";
// The filters. Their state is the address behind #, study=cuts&verdict=reproduced: a link keeps it
// and the back button undoes it. An address without = is a place on the page, and shows all.
(() => {
  const form = document.getElementById("filters");
  const status = document.getElementById("count");
  const studies = document.getElementById("studies");
  const sections = [...document.querySelectorAll(".study")];
  const lines = [...document.querySelectorAll(".verdicts > li")];
  const names = ["study", "verdict", "evidence"];

  function chosen() {
    const hash = location.hash.slice(1);
    const found = new URLSearchParams(hash.includes("=") ? hash : "");
    for (const name of names) {
      form.elements[name].value = found.get(name) || "";
      if (form.elements[name].selectedIndex < 0) form.elements[name].value = "";
    }
    return Object.fromEntries(names.map((name) => [name, form.elements[name].value]));
  }

  function show() {
    const want = chosen();
    const narrow = Boolean(want.verdict || want.evidence);
    const claims = new Set();
    for (const line of lines) {
      const verdicts = line.dataset.verdict.split("|");
      const evidence = line.dataset.evidence.split(" ");
      const claim = line.closest(".claim");
      const study = claim.closest(".study").dataset.study;
      line.hidden = (want.verdict !== "" && !verdicts.includes(want.verdict))
        || (want.evidence !== "" && !evidence.includes(want.evidence));
      if (!line.hidden && (want.study === "" || study === want.study)) {
        claims.add(claim);
      }
    }
    for (const claim of document.querySelectorAll(".claim")) {
      claim.hidden = narrow && !claims.has(claim);
    }
    for (const section of sections) {
      const empty = narrow && !section.querySelector(".claim:not([hidden])");
      section.hidden = empty || (want.study !== "" && section.dataset.study !== want.study);
    }
    studies.classList.toggle("filtered", narrow);
    const all = document.querySelectorAll(".claim").length;
    status.textContent = claims.size === 0 ? "No claim fits."
      : `${claims.size} of ${all} claims` + (narrow ? "; figures and tables are hidden." : ".");
    return narrow || want.study !== "";
  }

  function toStudies() {
    studies.scrollIntoView();
  }

  function write() {
    const want = names.map((name) => [name, form.elements[name].value]).filter(([, v]) => v);
    location.hash = want.length ? new URLSearchParams(want).toString() : "studies";
  }

  form.addEventListener("change", write);
  form.addEventListener("reset", () => setTimeout(write));
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => {
    if (show()) {
      toStudies();
    } else {
      document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
    }
  });
  for (const link of document.querySelectorAll("a[data-filter]")) {
    link.href = "#" + link.dataset.filter;
  }
  form.hidden = false;
  if (show()) toStudies();
})();
