{# A style with one color per class as SLD 1.1, for programs other than QGIS. Rendered by tables.py. -#}
{% macro equal(column, value) %}
<ogc:PropertyIsEqualTo><ogc:PropertyName>{{ column }}</ogc:PropertyName><ogc:Literal>{{ value }}</ogc:Literal></ogc:PropertyIsEqualTo>
{% endmacro %}
{% macro paint(color, opacity, stroke) %}
<se:Fill><se:SvgParameter name="fill">{{ color }}</se:SvgParameter><se:SvgParameter name="fill-opacity">{{ opacity }}</se:SvgParameter></se:Fill>
<se:Stroke><se:SvgParameter name="stroke">{{ stroke }}</se:SvgParameter></se:Stroke>
{% endmacro %}
{% macro symbolizer(color) %}
{% if shape == "point" %}
<se:PointSymbolizer><se:Graphic><se:Mark><se:WellKnownName>circle</se:WellKnownName>{{ paint(color, 1, outline) }}</se:Mark><se:Size>9</se:Size></se:Graphic></se:PointSymbolizer>
{% else %}
<se:PolygonSymbolizer>{{ paint(color, 0.35, color) }}</se:PolygonSymbolizer>
{% endif %}
{% endmacro %}
<StyledLayerDescriptor xmlns="http://www.opengis.net/sld" xmlns:se="http://www.opengis.net/se" xmlns:ogc="http://www.opengis.net/ogc" version="1.1.0">
<NamedLayer><se:Name>{{ name }}</se:Name><UserStyle><se:FeatureTypeStyle>
{% for class_name, color in colors.items() %}
<se:Rule><se:Name>{{ class_name }}</se:Name>
 <ogc:Filter>
 {% if has("ood") %}
 <ogc:And>{{ equal("ood", "false") }}{{ equal("class", class_name) }}</ogc:And>
 {% else %}
 {{ equal("class", class_name) }}
 {% endif %}
 </ogc:Filter>
 {{ symbolizer(color) }}
</se:Rule>
{% endfor %}
{% if has("ood") %}
<se:Rule><se:Name>{{ unlike_label }}</se:Name><ogc:Filter>{{ equal("ood", "true") }}</ogc:Filter>{{ symbolizer(gray) }}</se:Rule>
{% endif %}
</se:FeatureTypeStyle></UserStyle></NamedLayer>
</StyledLayerDescriptor>
