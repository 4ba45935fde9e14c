import { readFileSync } from "node:fs";
import { describeClose } from "tornado-wsauth";
import { describe, expect, test } from "vitest";
import { usualReaction } from "../../../tornado_wsauth/client/reactions.js";

const page = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf-8");
const section = page.split("## 5. Close codes")[1];
const lines = [...section.matchAll(/^\| (\d{4}) \| (?:`(\w+)`)? ?\| .* \| ([^|]+) \|$/gm)];
const table = lines.map(([, code, reason, advice]) => [Number(code), reason ?? "", advice]);

const REACTIONS = {
  "fetch new credentials, retry": ["retry", "now"], // at once if it was ready
  "fetch new credentials, retry once": ["once", "once"],
  "retry with backoff": ["retry", "retry"],
  "retry with jitter": ["retry", "retry"],
};

describe("docs/protocol.md §5", () => {
  test("has every close code", () => {
    const codes = new Set(table.map(([code]) => code));
    expect([...codes].sort()).toEqual([1001, 1009, 1011, 1012, 1013, 4400, 4401, 4403, 4408, 4409, 4429]);
  });

  test.each(table)("says of %i %s what the client does: %s", (code, reason, advice) => {
    const usual = ["authenticating", "ready"].map((during) => usualReaction(code, reason, during));
    expect(usual).toEqual(advice.startsWith("stop") ? ["stop", "stop"] : REACTIONS[advice]);
    expect(describeClose(code, reason)).not.toContain(String(code));
  });
});
