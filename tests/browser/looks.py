"""What one can measure of a page's looks: contrast, what sticks out, what has no name. JavaScript, run in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Any colour that CSS can write becomes four numbers by being painted.
_CONTRAST = """
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const painter = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    painter.clearRect(0, 0, 1, 1);
    painter.fillStyle = colour;
    painter.fillRect(0, 0, 1, 1);
    return [...painter.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, i) => value * a + below[i] * (1 - a));
  const backdrop = (element) => {
    if (element === null) return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [1, 1, 1];
    const colour = rgba(getComputedStyle(element).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, backdrop(element.parentElement));
  };
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const opacity = (element) =>
    element === null ? 1 : Number(getComputedStyle(element).opacity) * opacity(element.parentElement);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    const element = walker.currentNode.parentElement;
    const { width, height } = element.getBoundingClientRect();
    if (text === "" || width <= 1 || height <= 1 || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest("[aria-disabled=true], :disabled, [aria-hidden=true]")) continue;
    const style = getComputedStyle(element);
    const behind = backdrop(element);
    const [r, g, b, a] = rgba(style.color);
    const shown = over([r, g, b, a * opacity(element)], behind);
    const isLight = luminance(shown) > luminance(behind);
    const [dark, light] = [luminance(shown), luminance(behind)].sort((one, other) => one - other);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (light + 0.05) / (dark + 0.05);
    found.push({ text: text.slice(0, 40), ratio, needed: isLarge ? 3 : 4.5, isLight });
  }
  return found;
}
"""

_STICKING_OUT = """
() => {
  const isScrolled = (element) =>
    element !== null &&
    (/auto|scroll|hidden|clip/.test(getComputedStyle(element).overflowX) || isScrolled(element.parentElement));
  const names = [];
  for (const element of document.body.querySelectorAll("*")) {
    const { right, left, width, height } = element.getBoundingClientRect();
    if (width <= 1 || height <= 1 || (right <= innerWidth + 0.5 && left >= -0.5)) continue;
    if (isScrolled(element.parentElement === document.body ? null : element.parentElement)) continue;
    if (getComputedStyle(element).position === "fixed" || element.closest(".skip-link")) continue;
    names.push(element.tagName + " " + element.textContent.slice(0, 40));
  }
  return names;
}
"""

_SPOKEN = """
() => [...document.querySelectorAll("[role=status], [role=alert], [role=log], [aria-live]")]
  .filter((element) => element.getAttribute("aria-live") !== "off" && element.checkVisibility())
  .map((element) => element.textContent)
"""

_MOVING = """
() => document.getAnimations()
  .filter(({ playState, effect }) => playState === "running" && effect.getComputedTiming().activeDuration > 50)
  .map(({ effect }) => effect.target?.className ?? "?")
"""

_FOCUS = """
() => {
  const spoken = (element) => {
    const copy = element.cloneNode(true);
    for (const silent of copy.querySelectorAll("[aria-hidden=true]")) silent.remove();
    return copy.textContent;
  };
  const element = document.activeElement;
  const rings = [];
  // What shows the focus of a field that is not seen itself may be its label.
  for (let at = element; at !== null && rings.length < 3; at = at.parentElement) rings.push(at);
  for (const sibling of [element.nextElementSibling, element.previousElementSibling]) if (sibling) rings.push(sibling);
  const isRing = (at) => {
    const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(at);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 1 && !/, 0\\)|transparent/.test(outlineColor);
  };
  return {
    name: (element.ariaLabel ?? spoken(element.labels?.[0] ?? element)).trim(),
    pane: element.closest("section[aria-label]")?.ariaLabel ?? "",
    tag: element.tagName,
    ring: rings.some(isRing),
    value: element.value ?? "",
  };
}
"""

_FOCUSABLE = {
    "button",
    "checkbox",
    "combobox",
    "link",
    "radio",
    "searchbox",
    "slider",
    "spinbutton",
    "switch",
    "textbox",
}


def faint_texts(page: Page) -> list[str]:
    """Return the texts whose contrast is less than WCAG 2.2 §1.4.3 demands; what cannot be pressed may be fainter."""
    found: list[dict[str, Any]] = page.evaluate(_CONTRAST)
    assert len(found) > 20, "the page has hardly any text"
    faint = {f"{text['text']!r}: {text['ratio']:.2f}" for text in found if text["ratio"] < text["needed"]}
    return sorted(faint)


def is_dark(page: Page) -> bool:
    """Say whether most texts are lighter than what is behind them."""
    found: list[dict[str, Any]] = page.evaluate(_CONTRAST)
    return sum(text["isLight"] is True for text in found) > len(found) / 2


def sticking_out(page: Page) -> list[str]:
    """Return what reaches beyond the window's sides and is in nothing that can be scrolled by itself."""
    found: list[str] = page.evaluate(_STICKING_OUT)
    return found


def scrolls_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def spoken(page: Page) -> list[str]:
    """Return what stands in the live regions: a screen reader says each change of it."""
    found: list[str] = page.evaluate(_SPOKEN)
    return found


def moving(page: Page) -> list[str]:
    """Return the elements with an animation or transition that runs now."""
    found: list[str] = page.evaluate(_MOVING)
    return found


def focus(page: Page) -> dict[str, Any]:
    """Return what has the focus: its ``name``, ``pane``, ``tag``, ``value``, and whether a ``ring`` shows it."""
    found: dict[str, Any] = page.evaluate(_FOCUS)
    return found


def nameless(page: Page) -> list[str]:
    """Return the roles of what can be used and has no name, as the browser tells a screen reader."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    used = [node for node in nodes if not node["ignored"] and node["role"]["value"] in _FOCUSABLE]
    assert used, "there is nothing to press"
    return [node["role"]["value"] for node in used if not node["name"]["value"].strip()]
