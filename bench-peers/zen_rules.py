"""GoRules zen-engine as a peer: one decision table, one row for each promotion.

In: a task as JSON on standard input (`sconto.bench.peers` says what). Out: one JSON object a line.
The table is asked for each line of a cart ("loop"), and only says which rows match: what is given
is added up here, outside the measured time. The compiled `ZenDecisionContent` is used, which finds
rows by an index of zen's own; a plain JSON decision takes 30 ms at 10,000 rows.
"""

import json
import sys
import time

import zen


def decision(products):
    """The decision of the promotions of these products."""
    rules = [
        {"_id": f"r{i}", "sku": json.dumps(product), "quantity": ">= 2", "off": "10"}
        for i, product in enumerate(products)
    ]
    table = {
        "hitPolicy": "first",
        "inputs": [
            {"id": "sku", "name": "sku", "type": "expression", "field": "sku"},
            {"id": "quantity", "name": "quantity", "type": "expression", "field": "quantity"},
        ],
        "outputs": [{"id": "off", "name": "off", "type": "expression", "field": "off"}],
        "rules": rules,
        "inputField": "lines",
        "outputPath": "lines",
        "executionMode": "loop",
        "passThrough": False,
    }
    place = {"x": 0, "y": 0}
    nodes = [
        {"id": "in", "name": "in", "type": "inputNode", "position": place},
        {"id": "t", "name": "t", "type": "decisionTableNode", "position": place, "content": table},
        {"id": "out", "name": "out", "type": "outputNode", "position": place},
    ]
    edges = [
        {"id": "a", "sourceId": "in", "targetId": "t", "type": "edge"},
        {"id": "b", "sourceId": "t", "targetId": "out", "type": "edge"},
    ]
    content = zen.ZenDecisionContent(json.dumps({"nodes": nodes, "edges": edges}))
    return zen.ZenEngine().create_decision(content)


def main():
    task = json.load(sys.stdin)
    contexts = [{"lines": cart} for cart in task["carts"]]
    for size in task["sizes"]:
        rules = decision(task["products"][:size])
        rules.evaluate(contexts[0])
        times, discounts, end = [], [], time.perf_counter() + task["seconds"]
        while not times or time.perf_counter() < end:
            cart = contexts[len(times) % len(contexts)]
            started = time.perf_counter_ns()
            result = rules.evaluate(cart)
            times.append((time.perf_counter_ns() - started) / 1000)
            discounts.append(
                sum(
                    line["unit_minor"] * line["quantity"] * row["off"] // 100
                    for line, row in zip(cart["lines"], result["result"]["lines"], strict=True)
                    if row
                )
            )
        print(json.dumps({"size": size, "times_us": times, "discounts": discounts}), flush=True)


if __name__ == "__main__":
    main()
