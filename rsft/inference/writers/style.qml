{# A style for QGIS 3.26 or later: symbols, names of fields, labels and map tips. Rendered by tables.py. -#}
{% macro option(name, value, type="QString") %}<Option name="{{ name }}" value="{{ value }}" type="{{ type }}"/>{% endmacro %}
{% macro layer(kind, options) %}
<layer class="{{ kind }}" enabled="1" pass="0" locked="0">
 <Option type="Map">{% for name, value in options.items() %}{{ option(name, value) }}{% endfor %}</Option>
 {% if caller is defined %}{{ caller() }}{% endif %}
</layer>
{% endmacro %}
{# Properties that QGIS computes for each chip by an expression (type 3). -#}
{% macro properties(expressions, tag="data_defined_properties") %}
{% if expressions %}
<{{ tag }}><Option type="Map">
 {{ option("name", "") }}
 <Option name="properties" type="Map">
  {% for name, expression in expressions.items() %}
  <Option name="{{ name }}" type="Map">
   {{ option("active", "true", "bool") }}{{ option("expression", expression) }}{{ option("type", "3", "int") }}
  </Option>
  {% endfor %}
 </Option>
 {{ option("type", "collection") }}
</Option></{{ tag }}>
{% endif %}
{% endmacro %}
{# A symbol layer that draws another geometry than that of the chip. -#}
{% macro generator(kind, geometry) %}
{% set inner = caller() %}
{% call layer("GeometryGenerator", {"SymbolType": kind, "geometryModifier": geometry, "units": "MapUnit"}) %}{{ inner }}{% endcall %}
{% endmacro %}
{% macro disc(category) %}
{% call layer("SimpleMarker", {
 "name": "diamond" if category.is_unlike else "circle", "color": rgba(category.color, 255),
 "size": "%g" | format(disc_mm[category.shown_step]), "size_unit": "MM",
 "outline_color": rgba(outline, 255), "outline_width": "0.3", "outline_style": "solid"}) %}
{{ properties(steps(category, "size", disc_mm)) }}
{% endcall %}
{% endmacro %}
{% macro symbol(name, kind, alpha=1) %}
<symbol name="{{ name }}" type="{{ kind }}" alpha="{{ "%g" | format(alpha) }}" clip_to_extent="1">{{ caller() }}</symbol>
{% endmacro %}
<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.34.0" styleCategories="Symbology|Labeling|Fields|Forms|MapTips|Rendering" labelsEnabled="{{ 0 if shape == "tile" else 1 }}">
{% if has("corrected") %}
<fieldConfiguration><field name="corrected"><editWidget type="ValueMap"><config><Option type="Map"><Option name="map" type="List">
 {% for label, value in choices.items() %}
 <Option type="Map">{{ option(label, value) }}</Option>
 {% endfor %}
</Option></Option></config></editWidget></field></fieldConfiguration>
{% endif %}
<aliases>
 {% for column in columns if aliases[column] %}
 <alias field="{{ column }}" name="{{ aliases[column] }}" index="{{ columns.index(column) }}"/>
 {% endfor %}
</aliases>
<renderer-v2 type="categorizedSymbol" attr="{{ category_expression }}" symbollevels="0" forceraster="0" enableorderby="0">
 <categories>
  {% for category in categories %}
  <category symbol="{{ loop.index0 }}" value="{{ category.value }}" label="{{ category.label }}" render="true" type="string"/>
  {% endfor %}
 </categories>
 <symbols>
  {% for category in categories %}
  {% set index = loop.index0 %}
  {% call symbol(index, "marker" if shape == "point" else "fill") %}
  {% if shape == "point" %}
  {{ disc(category) }}
  {% elif shape == "tile" %}
  {% call generator("Fill", tile) %}
   {% call symbol("@%d@0" | format(index), "fill", 1 if category.step is none else tile_percent[category.step] / 100) %}
   {{ properties(steps(category, "alpha", tile_percent)) }}
   {{ layer("SimpleFill", polygon(category, 255, 0.1)) }}
   {% endcall %}
  {% endcall %}
  {% else %}
  {% call layer("SimpleFill", polygon(category, 50, outline_mm[category.shown_step])) %}
   {{ properties(dict({"enabled": is_box}, **steps(category, "outlineWidth", outline_mm))) }}
  {% endcall %}
  {% call generator("Marker", small_box) %}
   {% call symbol("@%d@1" | format(index), "marker") %}{{ disc(category) }}{% endcall %}
  {% endcall %}
  {% endif %}
  {% endcall %}
  {% endfor %}
 </symbols>
</renderer-v2>
{% if shape != "tile" %}
<labeling type="simple"><settings calloutType="simple">
 <text-style fieldName="{{ label }}" isExpression="1" fontSize="9" fontSizeUnit="Point" fontWeight="75" textColor="0,0,0,255" textOpacity="1">
  <text-buffer bufferDraw="1" bufferSize="0.7" bufferSizeUnits="MM" bufferColor="255,255,255,255" bufferNoFill="1" bufferOpacity="1"/>
 </text-style>
 {# around the point, or outside of the polygon #}
 <placement placement="{{ 6 if shape == "point" else 8 }}" dist="1.5" distUnits="MM"/>
 <rendering scaleVisibility="{{ 1 if shape == "point" and in_degrees else 0 }}" scaleMax="50000" scaleMin="0" drawLabels="1" obstacle="1"/>
 {% if shape != "point" %}{{ properties({"Show": is_box}, "dd_properties") }}{% endif %}
</settings></labeling>
{% endif %}
<mapTip enabled="1">{{ map_tip }}</mapTip>
<previewExpression>"class"</previewExpression>
{% if shape == "tile" %}
{# the last tile that covers a pixel replaces earlier ones #}
<featureBlendMode>13</featureBlendMode>
<layerOpacity>0.6</layerOpacity>
{% endif %}
</qgis>
