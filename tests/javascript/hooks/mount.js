// Mounts the hooks, and notes what React complains about.
import { createElement, StrictMode } from "react";
import { cleanup, render } from "@testing-library/react";
import { expect, onTestFinished, vi } from "vitest";
import { recorder } from "../client.js";

/** Mounts a component that uses the hook: `{result, rerender, unmount, renders}`. React's warnings fail the test. */
export function mount(hook, options, { strict = false } = {}) {
  const complaints = vi.spyOn(console, "error");
  const mounted = { result: { current: undefined }, renders: [] };
  function Page(props) {
    mounted.result.current = hook(props);
    mounted.renders.push(mounted.result.current);
    return null;
  }
  const element = (props) => createElement(strict ? StrictMode : "div", null, createElement(Page, props));
  const view = render(element(options));
  mounted.rerender = (changed) => view.rerender(element(changed));
  mounted.unmount = view.unmount;
  onTestFinished(() => {
    cleanup();
    expect(complaints.mock.calls).toEqual([]);
  });
  return mounted;
}

/** Mounts the hook with options that work, `{...mounted, getJwt, getToken, closes, …}`. */
export function mountAt(hook, site, overrides = {}, how = {}) {
  const told = recorder(site, overrides);
  return { ...told, ...mount(hook, told.options, how) };
}
