// Vendure's order calculator as a peer, everything in memory: its own Promotion, Order and
// OrderCalculator; only the services that would read tax zones from a database are stand-ins.
//
// In: a task as JSON on standard input (`sconto.bench.peers` says what). Out: one JSON object a line.
// What is timed is `applyPriceAdjustments`, as a shop calls it at every change of an order.
'use strict';
const core = require('@vendure/core');
const { OrderCalculator } = require(
  '@vendure/core/dist/service/helpers/order-calculator/order-calculator.js',
);
const { containsProducts, productsPercentageDiscount } = core;

const taxCategory = new core.TaxCategory({ id: 'goods', name: 'goods' });
const zone = new core.Zone({ id: 'zone', name: 'zone', members: [] });
const rate = new core.TaxRate({
  id: 'rate', name: 'none', enabled: true, value: 0, category: taxCategory, zone,
});
const channel = new core.Channel({
  id: 'channel', code: 'shop', token: 'shop', pricesIncludeTax: false, defaultCurrencyCode: 'USD',
  defaultTaxZone: zone,
});
const ctx = new core.RequestContext({
  apiType: 'shop', channel, languageCode: 'en', isAuthorized: true, authorizedAsOwnerOnly: false,
});

async function main() {
  const task = JSON.parse(await text(process.stdin));
  await core.setConfig({ promotionOptions: {
    promotionConditions: [containsProducts], promotionActions: [productsPercentageDiscount],
  } });
  const config = core.getConfig();
  const calculator = new OrderCalculator(
    { taxOptions: config.taxOptions, orderOptions: config.orderOptions },
    { getAllWithMembers: async () => [zone] },
    { getApplicableTaxRate: async () => rate },
    { findOne: async () => undefined },
    { getEligibleShippingMethods: async () => [] },
    { get: async (_ctx, _key, make) => make() },
  );
  const all = task.products.slice(0, Math.max(...task.sizes)).map(promotion);
  const orders = task.carts.map(order);
  for (const size of task.sizes) {
    const promotions = all.slice(0, size);
    const times = [];
    const discounts = [];
    const end = performance.now() + task.seconds * 1000;
    // Its code is compiled by the machine as it runs: a first run is not counted.
    await calculator.applyPriceAdjustments(ctx, orders[0], promotions, orders[0].lines);
    while (!times.length || performance.now() < end) {
      const cart = orders[times.length % orders.length];
      const before = cart.lines.reduce((sum, l) => sum + l.listPrice * l.quantity, 0);
      const started = process.hrtime.bigint();
      await calculator.applyPriceAdjustments(ctx, cart, promotions, cart.lines);
      times.push(Number(process.hrtime.bigint() - started) / 1000);
      discounts.push(before - cart.subTotal);
    }
    await say(JSON.stringify({ size, times_us: times, discounts }));
  }
}

function promotion(product) {
  const ids = { name: 'productVariantIds', value: JSON.stringify([product]) };
  return new core.Promotion({
    id: `two-of-${product}`,
    name: `two of ${product}`,
    conditions: [{ code: containsProducts.code, args: [{ name: 'minimum', value: '2' }, ids] }],
    actions: [
      { code: productsPercentageDiscount.code, args: [{ name: 'discount', value: '10' }, ids] },
    ],
    promotionConditions: [containsProducts],
    promotionActions: [productsPercentageDiscount],
  });
}

function order(cart, number) {
  return new core.Order({
    id: number, code: `order-${number}`, couponCodes: [], shippingLines: [], surcharges: [],
    modifications: [],
    lines: cart.map((line, i) => new core.OrderLine({
      id: `${number}-${i}`, quantity: line.quantity, orderPlacedQuantity: 0, listPrice: line.unit_minor,
      listPriceIncludesTax: false, adjustments: [], taxLines: [], taxCategoryId: taxCategory.id,
      taxCategory,
      productVariant: new core.ProductVariant({ id: line.sku }),
    })),
  });
}

// What was not written yet when the process exits would be lost.
function say(line) {
  return new Promise((done) => process.stdout.write(`${line}\n`, done));
}

async function text(stream) {
  let all = '';
  for await (const part of stream) all += part;
  return all;
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
