'use strict';
const byId = name => document.getElementById(name);
// Opens what a link or another part of the page leads to, and the sections around it.
const unfold = name => {
  for (let at = byId(name); at; at = at.parentElement) if (at.tagName === 'DETAILS') at.open = true;
};
addEventListener('hashchange', () => unfold(decodeURIComponent(location.hash.slice(1))));
unfold(decodeURIComponent(location.hash.slice(1)));
document.querySelector('nav').addEventListener('click', ({target}) => unfold((target.hash || '').slice(1)));

// Where a page may not write to the clipboard, as in a frame, a marked text field can still be copied.
function copyMarked(text) {
  const field = document.body.appendChild(document.createElement('textarea'));
  field.value = text;
  field.select();
  document.execCommand('copy');
  field.remove();
}
document.addEventListener('click', async ({target}) => {
  const text = target.dataset?.copy, name = target.textContent;
  if (text === undefined) return;
  try { await navigator.clipboard.writeText(text); } catch { copyMarked(text); target.focus(); }
  target.textContent = 'copied';
  setTimeout(() => { target.textContent = name; }, 1500);
});

// Paper shows every section; those that were folded are folded again afterwards.
let unfolded = [];
addEventListener('beforeprint', () => {
  unfolded = [...document.querySelectorAll('details:not([open])')];
  unfolded.forEach(one => { one.open = true; });
});
addEventListener('afterprint', () => unfolded.forEach(one => { one.open = false; }));
