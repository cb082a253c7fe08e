// @skill weather-report
// @description Ask the demo API for the weather in Lisbon
// @secrets DEMO_API_KEY
// @network api.demo.example
// @runtime embedded
const key: string | undefined = Deno.env.get("DEMO_API_KEY");
console.log(`the code holds  ${key}`);

const reply = await fetch("https://api.demo.example/v1/weather?city=Lisbon", {
  headers: { Authorization: `Bearer ${key}` },
});
const body = await reply.json();
console.log(`the API says    ${body.weather}`);
console.log(`the API echoed  ${body.echo}`);
